"""The denoising task that a subject's words are refined by and validated on.

Axes: R reference images, B rows of a step, C h w latents, n words, d their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoders.features import Reference, target_squares
from ..models.adapter import AttentionCapture, DiffusionModel, Prompt
from ..models.memory import MemoryPlan, memory_plans
from .config import RefineConfig
from .losses import denoising_loss, mask_regularisation, subject_weight
from .timesteps import antithetic_noise, stratified_timesteps

TEMPLATES = (("a photo of",), ("a photo of a",))
SEEDS = 1 << 63  # torch takes no larger one, ComfyUI gives some


class Task:
    """The denoising task that the words are judged by: reference latents, their weights, and rows of (time, noise)."""

    def __init__(self, model: DiffusionModel, ref: Reference, config: RefineConfig, plan: MemoryPlan | None = None):
        self.model, self.config = model, config
        self.plan = plan or memory_plans(config.batch, model.image_size)[0]
        target = target_squares(ref, self.plan.side)
        self.latents = model.encode_image(target.images).detach().clone()
        self.masks = None if target.masks is None else target.masks.to(self.latents.device)
        self.weight = subject_weight(self.masks, self.latents, config.background)
        self.fixed = self.rows(config.settled("residual").validation or 0, torch.Generator().manual_seed((config.seed + 7919) % SEEDS))

    def rows(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Times int64 [count] and noise [count, C, h, w]."""
        t = stratified_timesteps(count, *self.config.times, len(self.model.schedule), generator)
        noise = antithetic_noise(count, tuple(self.latents.shape[1:]), generator)
        return t.to(self.latents.device), noise.to(self.latents)

    def loss(self, embeddings: Tensor, t: Tensor, noise: Tensor, with_masks: bool, first: int = 0) -> Tensor:
        """The mean loss of words [n, d] over rows: they go through the R images in turn, and from round to round the template changes.

        `first` is how many rows went before these: steps go on where the last one stopped, so that every image has its turn.
        """
        return losses_together(self.model, [self.loss_request(embeddings, t, noise, with_masks, first)])[0]

    def loss_request(self, embeddings: Tensor, t: Tensor, noise: Tensor, with_masks: bool, first: int = 0) -> LossRequest:
        """What `loss` asks of the model."""
        turn = torch.arange(first, first + len(t), device=t.device)
        pick = turn % len(self.latents)
        templates, row = torch.unique(turn // len(self.latents) % len(TEMPLATES), return_inverse=True)
        prompts: list[Prompt] = [[*TEMPLATES[i], embeddings] for i in templates.tolist()]
        noisy = self.model.schedule.add_noise(self.latents[pick], noise, t)
        weight = self.weight[pick] * self.model.schedule.loss_weight(t)
        masks = self.masks[pick] if with_masks and self.masks is not None and self.config.mask_weight > 0 else None
        return LossRequest(self.config, prompts, row, noisy, t, noise, weight, masks)

    def gradient(self, embeddings: Tensor, t: Tensor, noise: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The loss of a step over rows, masks and all, and its gradient [n, d] to the words: as many rows at once as the effort says."""
        total, gradient = torch.zeros((), device=embeddings.device), torch.zeros_like(embeddings)
        for rows, share in _parts(len(t), self.plan.batch_size):
            leaf = embeddings.detach().clone().requires_grad_(True)
            loss = share * self.loss(leaf, t[rows], noise[rows], with_masks=True, first=step * len(t) + rows.start)
            gradient += torch.autograd.grad(loss, leaf)[0]
            total = total + loss.detach()  # which may be on another device than the words
        return total, gradient

    @torch.no_grad()
    def validate(self, embeddings: Tensor) -> float:
        """The loss of words on the fixed rows, without masks."""
        t, noise = self.fixed
        parts = _parts(len(t), self.plan.eval_batch_size)
        return sum(share * self.loss(embeddings, t[rows], noise[rows], with_masks=False, first=rows.start).item() for rows, share in parts)


@dataclass(frozen=True, eq=False)
class LossRequest:
    """Rows that a task wants denoised, and what their loss is measured by.

    P `prompts`, of which row b takes the one numbered `row[b]`; `noisy`, `noise` [B, C, h, w]; `t` [B]; `weight` [B, 1, h, w]; `masks`
    [B, H, W], None where the attention is not looked at.
    """

    config: RefineConfig
    prompts: list[Prompt]
    row: Tensor
    noisy: Tensor
    t: Tensor
    noise: Tensor
    weight: Tensor
    masks: Tensor | None


def losses_together(model: DiffusionModel, requests: Sequence[LossRequest]) -> list[Tensor]:
    """The mean loss of every question's rows; all of them go through the model as one batch.

    Raises:
        ValueError: their prompts hold different numbers of subject words.
    """
    encoded = model.encode_prompts([prompt for loss_request in requests for prompt in loss_request.prompts])
    counts = [len(loss_request.prompts) for loss_request in requests]
    row = torch.cat([loss_request.row + sum(counts[:i]) for i, loss_request in enumerate(requests)])
    capture = AttentionCapture(encoded.columns[row]) if any(loss_request.masks is not None for loss_request in requests) else None
    noisy, t = (torch.cat([getattr(loss_request, name) for loss_request in requests]) for name in ("noisy", "t"))
    predicted = model.predict_noise(noisy, t, encoded.context[row], capture)
    losses, start = [], 0
    for loss_request in requests:
        rows = slice(start, start := start + len(loss_request.t))
        loss = denoising_loss(predicted[rows], loss_request.noise, loss_request.weight).mean()
        if capture is not None and loss_request.masks is not None:
            maps, config = [layer[rows] for layer in capture.maps], loss_request.config
            loss = loss + config.mask_weight * mask_regularisation(maps, loss_request.masks, config.mask_loss)
        losses.append(loss)
    return losses


def _parts(count: int, most: int) -> list[tuple[slice, float]]:
    """`count` rows in parts of at most `most`, and the share of the whole that each is."""
    starts = range(0, count, most)
    return [(slice(start, min(start + most, count)), (min(start + most, count) - start) / count) for start in starts]
