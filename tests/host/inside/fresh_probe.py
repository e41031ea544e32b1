"""A fresh promptnet's encoder half is the checkpoint's own, bit for bit, also while a patch lies on the wired MODEL.

Run in ComfyUI's own Python by `test_probes` with a checkpoint's path; prints what was found.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import sys

path = sys.argv[1]

import inside  # noqa: E402

inside.start()

import comfy.model_management  # noqa: E402
import comfy.sd  # noqa: E402
import torch  # noqa: E402
from pack.nodes.create_probe import CreateProbe  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

KEY = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"

with torch.inference_mode():
    model, clip, _, _ = comfy.sd.load_checkpoint_guess_config(path)
    patched = model.clone()
    patched.add_patches({KEY: (torch.ones_like(model.model.state_dict()[KEY]),)}, 0.5)
    comfy.model_management.load_models_gpu([patched])
    wears = float((patched.model.state_dict()[KEY] - load_file(path)[f"model.{KEY}"].float()).abs().max())
    probe = CreateProbe.execute(patched, clip, "promptnet", "DINOv2 ViT-S/14", 5, 0).args[0]

file = {key.removeprefix("model.diffusion_model."): tensor.float() for key, tensor in load_file(path).items()}
own = {key: tensor for key, tensor in probe.regressor.state_dict().items() if key in file}
inside.report(
    {
        "taken": len(own),
        "equal": all(torch.equal(tensor, file[key]) for key, tensor in own.items()),
        "patched by": wears,
        "usable": not any(tensor.is_inference() for tensor in probe.parameters()),
        "word norm": probe.config.embedding_norm,
    }
)
