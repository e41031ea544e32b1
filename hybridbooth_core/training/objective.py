"""The training loss: denoising with the predicted token embeddings, plus regularisation.

Axes: B rows, n token embeddings of width d, latents C h w.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.adapter import AttentionCapture, ProbeTeacher
from ..models.seeds import row_generator
from ..probe.probe import Features, Probe
from ..refine.losses import denoising_loss, mask_regularisation, subject_weight
from ..refine.timesteps import stratified_timesteps
from .batch import Batch
from .config import Loss

NOISE = 1 << 20  # added to row numbers, so that noise is independent of what a source draws for the same row


@dataclass(frozen=True, eq=False)
class Losses:
    """`total` and its parts; scalars, means over the batch."""

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


def objective(probe: Probe, model: ProbeTeacher, loss: Loss, batch: Batch, inputs: Inputs, t: Tensor, noise: Tensor) -> Losses:
    """The denoising loss of the targets, weighted towards the subject, plus mask regularisation and a penalty on the embeddings' norm.

    Each row's weight has mean 1, so the loss of a global batch is the mean over its rows however they are distributed.
    """
    embeddings = probe(inputs.features, inputs.nouns)
    maps: list[Tensor] = []
    rows = denoising_losses(model, loss, batch, embeddings, inputs.latents, t, noise, maps)
    masked = batch.masked.to(embeddings.device)
    attention = torch.zeros((), device=embeddings.device)
    if loss.mask_weight and bool(masked.any()):
        attention = (
            mask_regularisation([layer[masked] for layer in maps], batch.masks.to(embeddings.device)[masked]) * masked.float().mean()
        )
    length = ((embeddings.float().norm(dim=-1) / probe_config(probe).embedding_norm) ** 2).mean()
    denoising = rows.mean()
    return Losses(denoising + loss.mask_weight * attention + loss.norm_weight * length, denoising, attention, length)


def denoising_losses(
    model: ProbeTeacher,
    loss: Loss,
    batch: Batch,
    embeddings: Tensor,
    latents: Tensor,
    t: Tensor,
    noise: Tensor,
    maps: list[Tensor] | None = None,
) -> Tensor:
    """The rows' denoising losses [B] in the units of the network's output. Appends the tokens' attention maps to `maps`, if given."""
    prompts = [[before, row, after] for row, (before, after) in zip(embeddings, batch.templates, strict=True)]
    encoded = model.encode_prompts(prompts)
    capture = AttentionCapture(encoded.columns) if maps is not None and loss.mask_weight else None
    noisy = model.schedule.add_noise(latents, noise, t)
    output = model.network_output(noisy, t, encoded.context, capture)
    target = noise if model.schedule.prediction == "epsilon" else model.schedule.velocity(latents, noise, t)
    weight = subject_weight(batch.masks.to(latents.device), latents, loss.background)
    if maps is not None and capture is not None:
        maps += capture.maps
    return denoising_loss(output, target, weight)


def probe_config(probe):
    """The configuration of a probe, which may be wrapped for several processes."""
    return getattr(probe, "module", probe).config
