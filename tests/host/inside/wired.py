"""What was done to MODEL and CLIP before they were wired counts, and what is wired stays as it is.

Run in ComfyUI's own Python by `test_inside`; prints numbers.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import hashlib

import inside

inside.start()

import comfy.model_patcher  # noqa: E402
import torch  # noqa: E402
from pack.hybridbooth_core.models.adapter import AttentionCapture  # noqa: E402
from pack.nodes.host.miniature import MiniatureWorld, load_miniature_world  # noqa: E402
from pack.nodes.host.model import host_model  # noqa: E402
from torch import Tensor  # noqa: E402

import nodes  # noqa: E402  (the host's own file)

PROMPT = "a photo of a red cat on snow"


def stock_context(clip) -> Tensor:
    return nodes.CLIPTextEncode().encode(clip, PROMPT)[0][0][0]


def state(model: torch.nn.Module) -> dict[str, object]:
    """Everything about a shared network that a careless borrower might change."""
    weights = hashlib.sha256(b"".join(t.float().numpy().tobytes() for t in model.state_dict().values())).hexdigest()
    modules = {name: (type(module).__name__, "forward" in vars(module)) for name, module in model.named_modules()}
    functions = sum(len(getattr(module, "weight_function", [])) for module in model.modules())
    gradients = sum(parameter.grad is not None for parameter in model.parameters())
    return {"weights": weights, "modules": modules, "functions": functions, "gradients": gradients}


def gradient(wired: tuple) -> tuple[Tensor, Tensor]:
    """The noise, and the gradient of a loss to the words."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(), host_model(*wired) as host, torch.enable_grad():
        embeddings = torch.randn(5, 96, generator=generator).requires_grad_(True)
        noisy = torch.randn(8, 16, 8, 8, generator=generator)
        encoded = host.encode_prompts([["a photo of", embeddings]] * 8)
        capture = AttentionCapture(encoded.columns)
        noise = host.predict_noise(noisy, torch.arange(50, 1000, 119), encoded.context, capture)
        (1e-3 * noise.square().mean() + 1e-3 * sum(layer.mean() for layer in capture.maps)).backward()
    assert embeddings.grad is not None
    return noise.detach(), embeddings.grad


def half_precision(model) -> object:
    """The same MODEL with weights and sums in float16, as on a GPU."""
    config = MiniatureWorld()
    config.latent_format = model.model.latent_format
    config.set_inference_dtype(torch.float16, None)
    half = config.get_model({}, "", device="cpu")
    half.diffusion_model.load_state_dict({k: v.half() for k, v in model.model.diffusion_model.state_dict().items()})
    return comfy.model_patcher.ModelPatcher(half, torch.device("cpu"), torch.device("cpu"))


with torch.inference_mode():
    model, clip, vae = load_miniature_world()
    skipping = nodes.CLIPSetLastLayer().set_last_layer(clip, -2)[0]
    plain, skipped = stock_context(clip), stock_context(skipping)
    before = state(model.model), state(clip.cond_stage_model)
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_v.weight"
    lora = model.clone()
    lora.add_patches({key: ("diff", (torch.full((64, 96), 2.0),))}, 1.0)
    lora_clip = clip.clone()
    table = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    lora_clip.add_patches({table: ("diff", (torch.full((384, 96), 0.5),))}, 1.0)
    changed = stock_context(lora_clip)
    results: dict[str, float | bool] = {
        "skip differs": inside.relative(plain, skipped),
        "text lora differs": inside.relative(plain, changed),
    }
    for name, stock, wired in (("skip", skipped, skipping), ("plain", plain, clip), ("text lora", changed, lora_clip)):
        with host_model(model, wired, vae) as host:
            results[name] = inside.relative(stock, host.encode_prompts([[PROMPT]]).context)

exact_noise, exact = gradient((model, clip, vae))
lora_noise, _ = gradient((lora, clip, vae))
with torch.inference_mode():
    stock_context(clip)  # the host loads its own again, and with them takes away what was put on them
    nodes.KSampler().sample(model, 1, 1, 1.0, "euler", "normal", [[plain, {}]], [[plain, {}]], nodes.EmptyLatentImage().generate(64, 64)[0])
    results["untouched"] = before == (state(model.model), state(clip.cond_stage_model))
    weight = model.model.diffusion_model.get_parameter(key.removeprefix("diffusion_model."))
    weight.add_(2.0)
baked_noise, _ = gradient((model, clip, vae))
with torch.inference_mode():
    weight.sub_(2.0)
half_noise, half = gradient((half_precision(model), clip, vae))
results |= {
    "lora differs": inside.relative(exact_noise, lora_noise),
    "lora": inside.relative(baked_noise, lora_noise),
    "half noise": inside.relative(exact_noise, half_noise),
    "half gradient": float((exact - half).norm() / exact.norm()),
}
inside.report(results)
