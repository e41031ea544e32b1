"""The denoising loss on fixed images, timesteps and noise, and an early verdict on whether the learner learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.adapter import Prompt
from ..probe.learner import Learner
from .batch import Batch
from .config import TrainConfig
from .context import TrainingContext
from .objective import denoising_losses, times_and_noise

FIXED = -1  # the step number that decides the validation noise


@dataclass(frozen=True)
class Verdict:
    """Whether the loss fell in the first percent of the training, and a line about it."""

    go: bool
    line: str


class Validation:
    """Computes the losses of the same rows with the same timesteps and noise each time. Features are not kept, since tokens are large."""

    def __init__(self, config: TrainConfig, context: TrainingContext):
        self._config, self._context = config, context
        self._batches = context.source.held_out(config.log.validation_samples)
        self.noun = self._rows(None)

    def rows(self, learner: Learner) -> Tensor:
        """The losses [V] with what a learner predicts."""
        return self._rows(learner)

    @torch.no_grad()
    def _rows(self, learner: Learner | None) -> Tensor:
        return torch.cat([self._losses(learner, batch) for batch in self._batches]).float().cpu()

    def _losses(self, learner: Learner | None, batch: Batch) -> Tensor:
        model, context = self._context.model, self._context
        if learner is None:  # the class noun only, as the baseline
            prompts = [[f"{before} {noun} {after}".strip()] for (before, after), noun in zip(batch.templates, batch.nouns, strict=True)]
            return self._denoised(batch, prompts, context.latents(batch))
        inputs = context.inputs(learner, batch)
        predicted = learner(inputs.features, inputs.nouns)
        with learner.applied(model, predicted):  # type: ignore[arg-type]
            return self._denoised(batch, learner.prompts(predicted, batch.templates, batch.nouns, model), inputs.latents)

    def _denoised(self, batch: Batch, prompts: Sequence[Prompt], latents: Tensor) -> Tensor:
        config, model = self._config, self._context.model
        size = sum(len(batch.rows) for batch in self._batches)
        t, noise = times_and_noise(config.loss, batch, size, tuple(latents.shape[1:]), len(model.schedule), config.seed, FIXED)
        return denoising_losses(model, config.loss, batch, prompts, latents, t.to(latents.device), noise.to(latents))


def verdict(before: Tensor, now: Tensor, noun: Tensor, step: int) -> Verdict:
    """Positive if the losses [V] fell by more than twice the standard error of their paired differences."""
    decrease = before - now
    error = decrease.std().item() / len(decrease) ** 0.5 if len(decrease) > 1 else float("inf")
    go = decrease.mean().item() > 2 * error
    line = (
        f"after {step} steps the validation loss went from {before.mean():.4f} to {now.mean():.4f} (fell by {decrease.mean():.4f}, "
        f"standard error {error:.4f}; class noun only {noun.mean():.4f})"
    )
    advice = "go on" if go else "no-go: it does not fall clearly; check images and masks in the sample grid, or change --optim.lr"
    return Verdict(go, f"{line}: {advice}")
