"""Deterministic DDIM sampling with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .adapter import DiffusionModel, Prompt


def ddim_times(total: int, steps: int) -> Tensor:
    """Decreasing timesteps, int64 [steps], with "trailing" spacing: they start at total - 1 and end one step above 0."""
    if not 1 <= steps <= total:
        raise ValueError(f"expected 1 to {total} sampling steps, found {steps}")
    return total - 1 - torch.arange(steps) * total // steps


def ddim_step(model: DiffusionModel, noisy: Tensor, noise: Tensor, now: int, after: int) -> Tensor:
    """One DDIM step: x at time `after` (-1 for the clean latents) from x at time `now` (Song et al. 2021, eq. 12 with sigma = 0)."""
    t = torch.full((len(noisy),), now, device=noisy.device)
    image = model.schedule.image_from_noise(noise, noisy, t)
    if after < 0:
        return image
    return model.schedule.add_noise(image, noise, torch.full_like(t, after))


@torch.no_grad()
def generate(
    model: DiffusionModel,
    prompts: Sequence[Prompt],
    start: Tensor,
    steps: int = 15,
    guidance: float = 3.0,
    negative: Prompt = (),
    early: Sequence[Prompt] | None = None,
    delay: float = 0.0,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Generates images [B, H, W, 3] in 0..1 for B prompts.

    Args:
        start: initial noise [B, C, h, w], standard normal; see `initial_noise`.
        early, delay: the first `delay` (0..1) of the steps use the B prompts `early`, such as the same prompts with the class noun
            instead of the subject ("delayed subject conditioning", FastComposer, Xiao et al. 2023, section 4.3).
        on_step: called with (steps done, steps) after each step; may raise to stop.
    Raises:
        ValueError: `delay` is outside 0..1, or only one of `early` and `delay` is set.
    """
    if not 0 <= delay <= 1 or (early is None) != (delay == 0) or (early is not None and len(early) != len(prompts)):
        found = "no early prompts" if early is None else f"{len(early)} early prompts"
        raise ValueError(f"expected {len(prompts)} early prompts and a delay in (0, 1], or neither, found {found} and delay {delay}")
    context = _contexts(model, prompts, negative)
    early_context = context if early is None else _contexts(model, early, negative)
    x = start.to(model.device)
    times = ddim_times(len(model.schedule), steps).tolist()
    for index, (now, after) in enumerate(zip(times, [*times[1:], -1], strict=True)):
        t = torch.full((2 * len(x),), now, device=x.device)
        current = early_context if index < round(delay * steps) else context
        conditional, unconditional = model.predict_noise(torch.cat([x, x]), t, current).chunk(2)
        x = ddim_step(model, x, unconditional + guidance * (conditional - unconditional), now, after)
        if on_step:
            on_step(index + 1, steps)
    return model.decode(x)


def _contexts(model: DiffusionModel, prompts: Sequence[Prompt], negative: Prompt) -> Tensor:
    """Contexts [2 B, T, d]: B prompts, then B negatives. Encoded one by one, since prompts may differ in their number of subject tokens."""
    return torch.cat([model.encode_prompts([prompt]).context for prompt in (*prompts, *[negative] * len(prompts))])


def initial_noise(count: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal noise [count, *shape], float32 on the CPU. Row i depends on the seed and on i alone, not on `count`."""
    generators = [torch.Generator("cpu").manual_seed((seed * 1_000_003 + row) % (1 << 63)) for row in range(count)]
    return torch.stack([torch.randn(shape, generator=generator, device="cpu") for generator in generators])
