"""Images from prompts by deterministic DDIM with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .adapter import DiffusionModel, Prompt


def ddim_times(total: int, steps: int) -> Tensor:
    """Times from the noisiest downwards, int64 [steps], evenly spread, the last one a step above 0 ("trailing": the noisiest is in)."""
    if not 1 <= steps <= total:
        raise ValueError(f"expected 1 to {total} sampling steps, found {steps}")
    return total - 1 - torch.arange(steps) * total // steps


def ddim_step(model: DiffusionModel, noisy: Tensor, noise: Tensor, now: int, after: int) -> Tensor:
    """x at time `after` (-1: no noise left) from x at time `now` and the predicted noise (Song et al. 2021, eq. 12 with sigma = 0)."""
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
    """Images [B, H, W, 3] in 0..1 for B prompts.

    Args:
        start: standard normal noise [B, C, h, w], made by the caller from a seed, so that methods can be compared on the same noise.
        early, delay: for the first `delay` share of the steps the B prompts `early` stand in, such as those with the class noun in the
            subject's place ("delayed subject conditioning", FastComposer, Xiao et al. 2023, section 4.3).
        on_step: called with (steps done, steps) after each; may raise to stop.
    Raises:
        ValueError: a delay that is no share, or one of `early` and `delay` without the other.
    """
    if not 0 <= delay <= 1 or (early is None) != (delay == 0) or (early is not None and len(early) != len(prompts)):
        given = "no early prompts" if early is None else f"{len(early)} early prompts"
        raise ValueError(f"expected {len(prompts)} early prompts with a delay above 0 and at most 1, or neither, found {given} and {delay}")
    context = _contexts(model, prompts, negative)
    early_context = context if early is None else _contexts(model, early, negative)
    x = start.to(model.device)
    times = ddim_times(len(model.schedule), steps).tolist()
    for index, (now, after) in enumerate(zip(times, [*times[1:], -1], strict=True)):
        t = torch.full((2 * len(x),), now, device=x.device)
        now_read = early_context if index < round(delay * steps) else context
        with_words, without = model.predict_noise(torch.cat([x, x]), t, now_read).chunk(2)
        x = ddim_step(model, x, without + guidance * (with_words - without), now, after)
        if on_step:
            on_step(index + 1, steps)
    return model.decode(x)


def _contexts(model: DiffusionModel, prompts: Sequence[Prompt], negative: Prompt) -> Tensor:
    """Contexts [2 B, T, d] of B prompts and as many negatives; one by one, since their subjects may differ in their number of words."""
    return torch.cat([model.encode_prompts([prompt]).context for prompt in (*prompts, *[negative] * len(prompts))])


def initial_noise(count: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """The noise [count, *shape] of a seed; image i of a seed is the same whatever `count` is."""
    generators = [torch.Generator("cpu").manual_seed((seed * 1_000_003 + row) % (1 << 63)) for row in range(count)]
    return torch.stack([torch.randn(shape, generator=generator, device="cpu") for generator in generators])
