"""InstantBooth's adapter through diffusers and through ComfyUI: the context, the noise, and that nothing remains.

Run in ComfyUI's own Python by `test_inside`; prints relative differences.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import inside
import parity
import torch
from pack.hybridbooth_core.probe.instant import InstantBooth, InstantConfig, block_sizes
from pack.hybridbooth_core.probe.learner import Features
from pack.hybridbooth_core.probe.reading import Reading
from pack.nodes.host.instant import with_reading

PROMPT = "a photo of <subject> on snow"


def adapter_of(model, gate: float) -> InstantBooth:
    """An adapter with random weights and open gates."""
    torch.manual_seed(5)
    made = InstantBooth(InstantConfig(
        width=96, clip="a", clip_width=8, dino="b", dino_width=8, family=model.family, base_model=model.name,
        blocks=block_sizes(model.unet), heads=4,
    ))  # fmt: skip
    for layer in made.adapters:
        torch.nn.init.constant_(layer.gate, gate)
    return made.eval().requires_grad_(False)


def in_the_host(wired, reading: Reading, noisy, t, alpha: float, beta: float):
    """The context and the noise of the prompt, by the hooks that hang on its conditioning."""
    model, clip, _ = wired
    known = with_reading(clip, reading, "subject", alpha, beta)
    ((context, told),) = known.encode_from_tokens_scheduled(known.tokenize(PROMPT))
    options: dict = {}
    for hook in told["hooks"].hooks:
        options |= {name: dict(value) for name, value in (getattr(hook, "transformers_dict", None) or {}).items()}
    sigma = model.get_model_object("model_sampling").sigmas[t]
    x = noisy * torch.sqrt(1 + sigma**2)[:, None, None, None]
    denoised = model.model.apply_model(x, sigma, c_crossattn=context.expand(len(x), -1, -1), transformer_options=options)
    return context, (x - denoised.float()) / sigma[:, None, None, None]


results = {}
features = Features(torch.randn(2, 7, 8), torch.randn(2, 7, 8), torch.zeros(2, 1))
for name, standalone, wired, side in (
    ("miniature", parity.miniature, (parity.model, parity.clip, parity.vae), 8),
    ("three levels", parity.other, (parity.three, parity.clip, parity.vae), 16),
):
    noisy, t = torch.randn(2, 16, side, side), torch.tensor([700, 200])
    found = results[name] = {}
    for gate, alpha, beta in ((0.05, 1.0, 1.0), (0.05, 0.4, 0.3), (0.0, 1.0, 1.0)):
        reading = Reading.of(adapter_of(standalone, gate), standalone, features, "cat")
        with torch.inference_mode():
            context, noise = in_the_host(wired, reading, noisy, t, alpha, beta)
        with torch.no_grad(), reading.applied(standalone, 1.0, alpha, beta) as pieces:
            expected = standalone.encode_prompts([["a photo of", *pieces, "on snow"]]).context
            drawn = standalone.predict_noise(noisy, t, expected.expand(2, -1, -1))
            plain = standalone.predict_noise
        with torch.no_grad():
            silent = plain(noisy, t, expected.expand(2, -1, -1))
        case = f"gate {gate} alpha {alpha}"
        found[f"{case}: context"] = inside.relative(expected, context)
        found[f"{case}: noise"] = inside.relative(drawn, noise)
        found[f"{case}: change"] = inside.relative(silent, drawn)
inside.report(results)
