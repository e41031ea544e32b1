"""The denoising task of a refinement: samples, losses and gradients.

Axes: R reference images, B samples of a step, C h w latents, n token embeddings, d their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoders.features import Reference, target_squares
from ..models.adapter import AttentionCapture, DiffusionModel, Prompt
from ..models.memory import MemoryPlan, memory_plans
from ..models.seeds import refine_validation_generator
from .captions import templates
from .config import RefineConfig
from .losses import denoising_loss, mask_regularisation, subject_weight
from .timesteps import antithetic_noise, stratified_timesteps


class Task:
    """The denoising loss of token embeddings on a subject's reference images, and a fixed validation set."""

    def __init__(self, model: DiffusionModel, ref: Reference, config: RefineConfig, plan: MemoryPlan | None = None):
        self.model, self.config = model, config
        self.plan = plan or memory_plans(config.batch, model.image_size)[0]
        target = target_squares(ref, self.plan.side)
        self.latents = model.encode_image(target.images).detach().clone()
        self.masks = None if target.masks is None else target.masks.to(self.latents.device)
        self.templates = templates(config.caption, len(self.latents))
        self.weight = subject_weight(self.masks, self.latents, config.background)
        generator = refine_validation_generator(config.seed)
        self.fixed = self.sample(config.validation, generator)  # the validation set

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random times int64 [count] and noise [count, C, h, w]."""
        t = stratified_timesteps(count, *self.config.times, len(self.model.schedule), generator)
        noise = antithetic_noise(count, tuple(self.latents.shape[1:]), generator)
        return t.to(self.latents.device), noise.to(self.latents)

    def loss(self, embeddings: Tensor, t: Tensor, noise: Tensor, with_masks: bool, first: int = 0) -> Tensor:
        """The mean loss of embeddings [n, d] over samples. Samples cycle through the R images, and each cycle uses their next template.

        `first` is the index of the first sample over all steps, so that every image is used.
        """
        return batched_losses(self.model, [self.loss_request(embeddings, t, noise, with_masks, first)])[0]

    def loss_request(self, embeddings: Tensor, t: Tensor, noise: Tensor, with_masks: bool, first: int = 0) -> LossRequest:
        """The request that `loss` computes; see there for the arguments."""
        numbers = range(first, first + len(t))
        pick = torch.tensor([number % len(self.latents) for number in numbers], device=t.device)
        chosen = [self._template(number) for number in numbers]
        different = list(dict.fromkeys(chosen))
        prompts: list[Prompt] = [[before, embeddings, *after] for before, *after in different]
        prompt_index = torch.tensor([different.index(template) for template in chosen], device=t.device)
        noisy = self.model.schedule.add_noise(self.latents[pick], noise, t)
        weight = self.weight[pick] * self.model.schedule.loss_weight(t)
        masks = self.masks[pick] if with_masks and self.masks is not None and self.config.mask_weight > 0 else None
        return LossRequest(self.config, prompts, prompt_index, noisy, t, noise, weight, masks)

    def _template(self, number: int) -> tuple[str, ...]:
        """The template of a sample, by its number over all steps."""
        own = self.templates[number % len(self.templates)]
        return own[number // len(self.templates) % len(own)]

    def gradient(self, embeddings: Tensor, t: Tensor, noise: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """A step's loss, with masks, and its gradient [n, d], accumulated over batches of the memory plan's size."""
        total, gradient = torch.zeros((), device=embeddings.device), torch.zeros_like(embeddings)
        for rows, share in _parts(len(t), self.plan.batch_size):
            leaf = embeddings.detach().clone().requires_grad_(True)
            loss = share * self.loss(leaf, t[rows], noise[rows], with_masks=True, first=step * len(t) + rows.start)
            gradient += torch.autograd.grad(loss, leaf)[0]
            total = total + loss.detach()  # may be on another device than the embeddings
        return total, gradient

    @torch.no_grad()
    def validate(self, embeddings: Tensor) -> float:
        """The loss of embeddings on the validation set, without masks."""
        t, noise = self.fixed
        parts = _parts(len(t), self.plan.eval_batch_size)
        return sum(share * self.loss(embeddings, t[rows], noise[rows], with_masks=False, first=rows.start).item() for rows, share in parts)


@dataclass(frozen=True, eq=False)
class LossRequest:
    """B samples to denoise, and the weights of their loss.

    Sample b uses `prompts[prompt_index[b]]`. `noisy` and `noise` are [B, C, h, w], `t` is [B], `weight` [B, 1, h, w]; `masks` is [B, H, W],
    or None without mask regularisation.
    """

    config: RefineConfig
    prompts: list[Prompt]
    prompt_index: Tensor
    noisy: Tensor
    t: Tensor
    noise: Tensor
    weight: Tensor
    masks: Tensor | None


def batched_losses(model: DiffusionModel, requests: Sequence[LossRequest]) -> list[Tensor]:
    """The mean loss of each request, computed in one forward pass.

    Raises:
        ValueError: the prompts have different numbers of subject tokens.
    """
    encoded = model.encode_prompts([prompt for request in requests for prompt in request.prompts])
    counts = [len(request.prompts) for request in requests]
    index = torch.cat([request.prompt_index + sum(counts[:i]) for i, request in enumerate(requests)])
    capture = AttentionCapture(encoded.columns[index]) if any(request.masks is not None for request in requests) else None
    noisy, t = (torch.cat([getattr(request, name) for request in requests]) for name in ("noisy", "t"))
    predicted = model.predict_noise(noisy, t, encoded.context[index], capture)
    losses, start = [], 0
    for request in requests:
        rows = slice(start, start := start + len(request.t))
        loss = denoising_loss(predicted[rows], request.noise, request.weight).mean()
        if capture is not None and request.masks is not None:
            maps, config = [layer[rows] for layer in capture.maps], request.config
            loss = loss + config.mask_weight * mask_regularisation(maps, request.masks, config.mask_loss)
        losses.append(loss)
    return losses


def _parts(count: int, batch_size: int) -> list[tuple[slice, float]]:
    """Splits `count` samples into batches of at most `batch_size`: a slice and its fraction of the samples each."""
    ends = ((start, min(start + batch_size, count)) for start in range(0, count, batch_size))
    return [(slice(start, end), (end - start) / count) for start, end in ends]
