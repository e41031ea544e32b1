"""The denoising task that a subject's words are refined by and validated on.

Axes: R reference pictures, B rows of a step, C h w latents, n words, d their width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .diffusion_model import AttentionTap, DiffusionModel, Prompt
from .features import Reference, target_squares
from .losses import denoising_loss, mask_regularisation, subject_weight
from .refine_config import RefineConfig
from .timesteps import antithetic_noise, stratified_timesteps

TEMPLATES = (("a photo of",), ("a photo of a",))
SEEDS = 1 << 63  # torch takes no larger one, ComfyUI gives some


class Task:
    """The denoising task that the words are judged by: reference latents, their weights, and rows of (time, noise)."""

    def __init__(self, model: DiffusionModel, ref: Reference, config: RefineConfig):
        self.model, self.config = model, config
        target = target_squares(ref, model.picture_size)
        self.latents = model.encode_image(target.pictures).detach().clone()
        self.masks = None if target.masks is None else target.masks.to(self.latents.device)
        self.weight = subject_weight(self.masks, self.latents, config.background)
        self.fixed = self.rows(config.settled("residual").validation or 0, torch.Generator().manual_seed((config.seed + 7919) % SEEDS))

    def rows(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Times int64 [count] and noise [count, C, h, w]."""
        t = stratified_timesteps(count, *self.config.times, len(self.model.schedule), generator)
        noise = antithetic_noise(count, tuple(self.latents.shape[1:]), generator)
        return t.to(self.latents.device), noise.to(self.latents)

    def loss(self, words: Tensor, t: Tensor, noise: Tensor, with_masks: bool, step: int = 0) -> Tensor:
        """The mean loss of words [n, d] over rows: they go through the R pictures in turn, and from round to round the template changes.

        Steps go on where the last one stopped, so that every picture has its turn however many there are.
        """
        turn = torch.arange(len(t), device=t.device) + step * len(t)
        pick = turn % len(self.latents)
        prompts: list[Prompt] = [[*TEMPLATES[i // len(self.latents) % len(TEMPLATES)], words] for i in turn.tolist()]
        encoded = self.model.encode_prompts(prompts)
        noisy = self.model.schedule.add_noise(self.latents[pick], noise, t)
        tap = AttentionTap(encoded.columns) if with_masks and self.masks is not None and self.config.mask_weight > 0 else None
        predicted = self.model.predict_noise(noisy, t, encoded.context, tap)
        weight = self.weight[pick] * self.model.schedule.loss_weight(t)
        loss = denoising_loss(predicted, noise, weight).mean()
        if tap is not None and self.masks is not None:
            loss = loss + self.config.mask_weight * mask_regularisation(tap.maps, self.masks[pick], self.config.mask_loss)
        return loss

    @torch.no_grad()
    def validate(self, words: Tensor) -> float:
        return self.loss(words, *self.fixed, with_masks=False).item()
