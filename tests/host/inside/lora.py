"""A LoRA of ours through stock ComfyUI: every key finds its layer, and the denoiser predicts what ours does.

Run in ComfyUI's own Python by `test_loras` with a folder: `pet.safetensors` for the miniature, `asked.safetensors` with what it is asked
and should say, `sd15.safetensors` for a denoiser of Stable Diffusion 1.5's layout. Prints numbers.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import sys
from pathlib import Path

folder = Path(sys.argv[1])

import inside  # noqa: E402

inside.start()

import comfy.lora  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.supported_models  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from pack.nodes.host.miniature import load_miniature_world  # noqa: E402
from pack.nodes.host.model import host_model  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import nodes  # noqa: E402  (the host's own file)

warnings: list[str] = []


class LogLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warnings.append(record.getMessage())


def stable_diffusion() -> comfy.model_patcher.ModelPatcher:
    """The denoiser of SD1.5 as the host builds it, at a twentieth of its width."""
    config = comfy.supported_models.SD15({
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "channel_mult": [1, 2, 4, 4],
        "num_res_blocks": [2, 2, 2, 2], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "context_dim": 24, "num_heads": 8,
        "use_spatial_transformer": True, "legacy": False, "use_linear_in_transformer": False, "use_temporal_attention": False,
        "adm_in_channels": None,
    })  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    return comfy.model_patcher.ModelPatcher(config.get_model({}, "", device="cpu"), torch.device("cpu"), torch.device("cpu"))


with torch.inference_mode():
    logging.getLogger().addHandler(LogLines(logging.WARNING))
    folder_paths.add_model_folder_path("loras", str(folder))
    model, clip, vae = load_miniature_world()
    asked = load_file(folder / "asked.safetensors")
    adapter, clip = nodes.LoraLoader().load_lora(model, clip, "pet.safetensors", 1.0, 1.0)
    said = {}
    for name, chosen in (("tuned", adapter), ("base", model)):
        with host_model(chosen, clip, vae) as host:
            context = host.encode_prompts([["a photo of a picture cat"]]).context.expand(len(asked["noisy"]), -1, -1)
            said[name] = host.predict_noise(asked["noisy"], asked["t"], context)

    wide = stable_diffusion()
    tensors = load_file(folder / "sd15.safetensors")
    loaded = comfy.lora.load_lora(tensors, comfy.lora.model_lora_keys_unet(wide.model, {}))
    patched = wide.add_patches(loaded, 1.0)
    own = wide.model.state_dict()
    inside.report({
        "difference": inside.relative(asked["tuned"], said["tuned"]),
        "change": inside.relative(said["base"], said["tuned"]),
        "patched": len(set(patched)),
        "fitting": sum(
            own[key].shape == (tensors[f"{layer}.lora_up.weight"].shape[0], tensors[f"{layer}.lora_down.weight"].shape[1])
            for layer, key in comfy.lora.model_lora_keys_unet(wide.model, {}).items() if f"{layer}.alpha" in tensors
        ),
        "not loaded": [message for message in warnings if "not loaded" in message.lower()],
    })  # fmt: skip
