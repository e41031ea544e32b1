"""The training loss: denoising with what a learner predicts, plus regularisation.

Axes: B rows, n columns of the subject in the context, latents C h w.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..models.adapter import AttentionCapture, ProbeTeacher, Prompt
from ..models.seeds import row_generator
from ..probe.learner import Features, Learner
from ..refine.losses import denoising_loss, mask_regularisation, subject_weight
from ..refine.timesteps import stratified_timesteps
from .batch import Batch
from .config import Loss

NOISE = 1 << 20  # added to row numbers, so that noise is independent of what a source draws for the same row


@dataclass(frozen=True, eq=False)
class Losses:
    """`total` and its parts; scalars, means over the batch. `length` is the learner's penalty."""

    total: Tensor
    denoising: Tensor
    attention: Tensor
    length: Tensor


@dataclass(frozen=True, eq=False)
class Inputs:
    """An encoded batch: features of the references, latents of the targets, and class-noun embeddings [B, d]."""

    features: Features
    latents: Tensor
    nouns: Tensor


def times_and_noise(loss: Loss, batch: Batch, size: int, shape: tuple[int, ...], total: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Timesteps int64 [B], stratified over the global batch of `size` rows, and noise [B, *shape]. Depend on seed, step and row only."""
    t = stratified_timesteps(size, *loss.times, total, row_generator(seed, step, -1))[torch.tensor(list(batch.rows))]
    noise = [torch.randn(shape, generator=row_generator(seed, step, NOISE + row)) for row in batch.rows]
    return t, torch.stack(noise)


@contextmanager
def objective(
    wrapped: nn.Module, model: ProbeTeacher, loss: Loss, batch: Batch, inputs: Inputs, t: Tensor, noise: Tensor
) -> Iterator[Losses]:
    """While open, what is predicted acts in the model; yields the losses, whose backward pass belongs inside.

    The denoising loss of the targets is weighted towards the subject; mask regularisation and the learner's penalty come on top. Each
    row's weight has mean 1, so the loss of a global batch is the mean over its rows however they are distributed.

    Args:
        wrapped: the learner, or what wraps it for several processes.
    """
    learner = unwrapped(wrapped)
    predicted = wrapped(inputs.features, inputs.nouns)
    maps: list[Tensor] = []
    with learner.applied(model, predicted):  # type: ignore[arg-type]
        prompts = learner.prompts(predicted, batch.templates, batch.nouns, model)
        rows = denoising_losses(model, loss, batch, prompts, inputs.latents, t, noise, maps)
        masked = batch.masked.to(rows.device)
        attention = torch.zeros((), device=rows.device)
        if maps and bool(masked.any()):
            masks = batch.masks.to(rows.device)[masked]
            attention = mask_regularisation([layer[masked] for layer in maps], masks) * masked.float().mean()
        length, denoising = learner.penalty(predicted), rows.mean()
        yield Losses(denoising + loss.mask_weight * attention + loss.norm_weight * length, denoising, attention, length)


def denoising_losses(
    model: ProbeTeacher,
    loss: Loss,
    batch: Batch,
    prompts: Sequence[Prompt],
    latents: Tensor,
    t: Tensor,
    noise: Tensor,
    maps: list[Tensor] | None = None,
) -> Tensor:
    """The rows' denoising losses [B] in the units of the network's output.

    Appends to `maps`, if given, the attention maps of the columns that the prompts insert.
    """
    encoded = model.encode_prompts(prompts)
    capture = AttentionCapture(encoded.columns) if maps is not None and loss.mask_weight and encoded.columns.shape[1] else None
    noisy = model.schedule.add_noise(latents, noise, t)
    output = model.network_output(noisy, t, encoded.context, capture)
    target = noise if model.schedule.prediction == "epsilon" else model.schedule.velocity(latents, noise, t)
    weight = subject_weight(batch.masks.to(latents.device), latents, loss.background)
    if maps is not None and capture is not None:
        maps += capture.maps
    return denoising_loss(output, target, weight)


def unwrapped(learner: nn.Module) -> Learner:
    """A learner, which may be wrapped for several processes."""
    return cast(Learner, getattr(learner, "module", learner))
