"""Sampling with classifier-free guidance: a deterministic DDIM, or any of diffusers' samplers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .adapter import DiffusionModel, Prompt
from .schedulers import new_scheduler
from .seeds import image_generator, sampler_generator


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
    sampler: str = "",
    seed: int = 0,
) -> Tensor:
    """Generates images [B, H, W, 3] in 0..1 for B prompts.

    Args:
        start: initial noise [B, C, h, w], standard normal; see `initial_noise`.
        early, delay: the first `delay` (0..1) of the steps use the B prompts `early`, such as the same prompts with the class noun
            instead of the subject ("delayed subject conditioning", FastComposer, Xiao et al. 2023, section 4.3).
        on_step: called with (steps done, steps) after each step; may raise to stop.
        sampler: a name of `schedulers.SCHEDULERS`, that is, one of diffusers' samplers; "" is the DDIM of this file, which the
            benchmarks use.
        seed: of the noise that an ancestral sampler adds.
    Raises:
        UserError: no such sampler.
        ValueError: `delay` is outside 0..1, or only one of `early` and `delay` is set.
    """
    if not 0 <= delay <= 1 or (early is None) != (delay == 0) or (early is not None and len(early) != len(prompts)):
        found = "no early prompts" if early is None else f"{len(early)} early prompts"
        raise ValueError(f"expected {len(prompts)} early prompts and a delay in (0, 1], or neither, found {found} and delay {delay}")
    context = _contexts(model, prompts, negative)
    early_context = context if early is None else _contexts(model, early, negative)

    def predict(x: Tensor, now: int, done: float) -> Tensor:
        """The guided noise prediction for x at time `now`. `done` is the fraction of steps done."""
        t = torch.full((2 * len(x),), now, device=x.device)
        current = early_context if done < round(delay * steps) / steps else context
        conditional, unconditional = model.predict_noise(torch.cat([x, x]), t, current).chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    x = start.to(model.device)
    if sampler:
        return model.decode(_sample(new_scheduler(sampler, model.schedule, steps), x, predict, seed, on_step))
    times = ddim_times(len(model.schedule), steps).tolist()
    for index, (now, after) in enumerate(zip(times, [*times[1:], -1], strict=True)):
        x = ddim_step(model, x, predict(x, now, index / steps), now, after)
        if on_step:
            on_step(index + 1, steps)
    return model.decode(x)


def _sample(
    scheduler: Any, x: Tensor, predict: Callable[[Tensor, int, float], Tensor], seed: int, on_step: Callable[[int, int], None] | None
) -> Tensor:
    """Samples latents with a diffusers scheduler, whose noise is drawn per row on the CPU, so that row i does not depend on the batch."""
    generators = [sampler_generator(seed, row) for row in range(len(x))]
    settings = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
    times, x = scheduler.timesteps, x * scheduler.init_noise_sigma
    for index, t in enumerate(times):
        noise = predict(
            scheduler.scale_model_input(x, t), min(max(round(float(t)), 0), len(scheduler.alphas_cumprod) - 1), index / len(times)
        )
        x = scheduler.step(noise, t, x, **settings).prev_sample
        if on_step:
            on_step(index + 1, len(times))
    return x


def _contexts(model: DiffusionModel, prompts: Sequence[Prompt], negative: Prompt) -> Tensor:
    """Contexts [2 B, T, d]: B prompts, then B negatives. Encoded one by one, since prompts may differ in their number of subject tokens."""
    return torch.cat([model.encode_prompts([prompt]).context for prompt in (*prompts, *[negative] * len(prompts))])


def initial_noise(count: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal noise [count, *shape], float32 on the CPU. Row i depends on the seed and on i alone, not on `count`."""
    return torch.stack([torch.randn(shape, generator=image_generator(seed, row), device="cpu") for row in range(count)])
