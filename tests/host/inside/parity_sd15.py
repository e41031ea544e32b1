"""One checkpoint of Stable Diffusion 1.5's full layout and size through diffusers and through ComfyUI's stock loader.

Contexts, noise, attention columns, the refinement's own loss, its gradient to the words, and the words after five steps. Images are small
(128 pixels), weights random. The two are loaded one after the other, so that one denoiser is in memory at a time. Run in ComfyUI's own
Python by `test_inside` with the checkpoint's path; prints relative differences.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

path = Path(sys.argv[1])

import inside  # noqa: E402

inside.start()

import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import diffusers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from pack.hybridbooth_core.encoders.features import reference  # noqa: E402
from pack.hybridbooth_core.models.adapter import AttentionCapture, DiffusionModel  # noqa: E402
from pack.hybridbooth_core.models.diffusers_adapter import DiffusersModel  # noqa: E402
from pack.hybridbooth_core.models.from_pipeline import PipelineTokenizer  # noqa: E402
from pack.hybridbooth_core.models.ldm_layout import to_ldm_layout  # noqa: E402
from pack.hybridbooth_core.models.noise_schedule import NoiseSchedule  # noqa: E402
from pack.hybridbooth_core.refine.refine import RefineConfig, Task, refine  # noqa: E402
from pack.nodes.host.model import host_model  # noqa: E402
from torch import Tensor, nn  # noqa: E402

SIDE = 128
CONFIG = RefineConfig(mode="words", steps=5, batch=2, validation=2, step_size=0.1)


class Coder:
    """Latents by averaging: the two are given the same ones, since their autoencoders are not what is compared."""

    def encode(self, images: Tensor) -> Tensor:
        cells = nn.functional.avg_pool2d(images.movedim(-1, 1) * 2 - 1, 8)
        return torch.cat([cells, cells.mean(1, keepdim=True)], 1)

    def decode(self, latents: Tensor) -> Tensor:
        raise NotImplementedError("nothing is drawn here")


def diffusers_side() -> DiffusersModel:
    """The checkpoint's tensors in diffusers' and transformers' own classes."""
    tensors = comfy.utils.load_torch_file(str(path))
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(sample_size=SIDE // 8, cross_attention_dim=768, attention_head_dim=8)
        text = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        )
    places = to_ldm_layout({key: key for key in unet.state_dict()})  # only names change, so names can stand for tensors
    own = {name: tensors[f"model.diffusion_model.{place}"].float() for place, name in places.items()}
    unet.load_state_dict(own, assign=True)
    inner = getattr(text, "text_model", text)
    prefix = "cond_stage_model.transformer.text_model."
    state = {key.removeprefix(prefix): value.float() for key, value in tensors.items() if key.startswith(prefix)}
    inner.load_state_dict(state, strict=False, assign=True)
    for name, buffer in inner.named_buffers():  # counting tables, which no file holds
        assert name.endswith("position_ids"), name
        inner.get_submodule(name.rpartition(".")[0]).position_ids = torch.arange(buffer.shape[-1])[None]
    assert not any(tensor.is_meta for tensor in (*unet.parameters(), *inner.parameters()))
    folder = os.path.join(os.getcwd(), "comfy", "sd1_tokenizer")
    tokenizer = transformers.CLIPTokenizer(f"{folder}/vocab.json", f"{folder}/merges.txt", model_max_length=77)
    parts = (unet.eval().requires_grad_(False), text.eval().requires_grad_(False), PipelineTokenizer(tokenizer), Coder())
    return DiffusersModel("diffusers", *parts, NoiseSchedule.scaled_linear(), SIDE)


def measure(model: DiffusionModel) -> dict[str, Tensor]:
    """All that is compared, on fixed images, words, noise and times."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(5, 768, generator=generator) * 0.4 / 768**0.5
    noisy = torch.randn(2, 4, SIDE // 8, SIDE // 8, generator=generator)
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 30:100, 20:90] = 1
    ref = reference(torch.rand(1, SIDE, SIDE, 3, generator=generator), mask)
    with torch.no_grad():
        encoded = model.encode_prompts([["a photo of", embeddings], ["a photo of a small", embeddings, "on snow"]])
        capture = AttentionCapture(encoded.columns)
        noise = model.predict_noise(noisy, torch.tensor([300, 700]), encoded.context, capture)
    found = {"context": encoded.context, "columns": encoded.columns, "noise": noise, "latents": model.encode_image(ref.images)}
    found |= {f"map {index}": layer for index, layer in enumerate(capture.maps)}
    with torch.enable_grad():
        leaf = embeddings.clone().requires_grad_(True)
        task = Task(model, ref, CONFIG)
        found["loss"] = task.loss(leaf, *task.sample(2, torch.Generator().manual_seed(1)), with_masks=True)
        found["loss"].backward()
    assert leaf.grad is not None
    refined = refine(model, ref, model.token_embeddings("cat").mean(0), CONFIG, start=embeddings)
    found |= {"gradient": leaf.grad, "refined": refined.embeddings - embeddings, "validation": torch.tensor(refined.validation)}
    assert refined.relative_change > 1e-3, "the steps changed nothing"
    return {key: value.detach().clone() for key, value in found.items()}


expected = measure(diffusers_side())
gc.collect()
with torch.inference_mode():  # as nodes find it
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(path))
    with host_model(model, clip, vae) as host:
        host.image_size = SIDE
        host.encode_image = Coder().encode  # type: ignore[method-assign]
        found = measure(host)
assert expected.keys() == found.keys(), f"{sorted(expected)} and {sorted(found)}"
inside.report({key: inside.relative(expected[key], found[key]) for key in expected})
