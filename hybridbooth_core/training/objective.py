"""What the probe is trained on: its words must let the frozen model draw the subject.

Axes: B rows, n words, d their width, C h w latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.adapter import AttentionCapture
from ..models.diffusers_adapter import DiffusersModel
from ..models.seeds import row_generator
from ..probe.probe import Features, Probe
from ..refine.losses import denoising_loss, mask_regularisation, subject_weight
from ..refine.timesteps import stratified_timesteps
from .batch import Batch
from .config import Loss

NOISE = 1 << 20  # keeps the numbers of the noise apart from those that a source draws for the same row


@dataclass(frozen=True, eq=False)
class Losses:
    """`total` and its parts; scalars, means over the batch."""

    total: Tensor
    denoising: Tensor
    attention: Tensor
    length: Tensor


@dataclass(frozen=True, eq=False)
class Inputs:
    """A batch as the frozen networks see it: features of the references, latents of the targets, the nouns' embeddings [B, d]."""

    features: Features
    latents: Tensor
    nouns: Tensor


def times_and_noise(loss: Loss, batch: Batch, size: int, shape: tuple[int, ...], total: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Times int64 [B], stratified over the global batch of `size` rows, and noise [B, *shape]: functions of seed, step and row alone."""
    t = stratified_timesteps(size, *loss.times, total, row_generator(seed, step, -1))[torch.tensor(list(batch.rows))]
    noise = [torch.randn(shape, generator=row_generator(seed, step, NOISE + row)) for row in batch.rows]
    return t, torch.stack(noise)


def objective(probe: Probe, model: DiffusersModel, loss: Loss, batch: Batch, inputs: Inputs, t: Tensor, noise: Tensor) -> Losses:
    """The denoising loss of the targets, weighted towards the subject, plus mask regularisation and a penalty on long words.

    Each row's weight has mean 1, so that the loss of a batch is the mean over its rows however they are shared out.
    """
    embeddings = probe(inputs.features, inputs.nouns)
    maps: list[Tensor] = []
    rows = denoised(model, loss, batch, embeddings, inputs.latents, t, noise, maps)
    masked = batch.masked.to(embeddings.device)
    attention = torch.zeros((), device=embeddings.device)
    if loss.mask_weight and bool(masked.any()):
        attention = (
            mask_regularisation([layer[masked] for layer in maps], batch.masks.to(embeddings.device)[masked]) * masked.float().mean()
        )
    length = ((embeddings.float().norm(dim=-1) / probe_config(probe).embedding_norm) ** 2).mean()
    denoising = rows.mean()
    return Losses(denoising + loss.mask_weight * attention + loss.norm_weight * length, denoising, attention, length)


def denoised(
    model: DiffusersModel,
    loss: Loss,
    batch: Batch,
    embeddings: Tensor,
    latents: Tensor,
    t: Tensor,
    noise: Tensor,
    maps: list[Tensor] | None = None,
) -> Tensor:
    """The rows' denoising losses [B] in the units of the network's own output; where the words look goes to `maps`, if it is asked for."""
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
    """The configuration of a probe, wrapped for several processes or not."""
    return getattr(probe, "module", probe).config
