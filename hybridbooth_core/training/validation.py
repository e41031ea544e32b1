"""Does it learn? The denoising loss on images, times and noise that never change, and a word on it early."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..probe.probe import Probe
from .batch import Batch
from .config import TrainConfig
from .context import TrainingContext
from .objective import denoised, times_and_noise

FIXED = -1  # the step whose noise is the validation's


@dataclass(frozen=True)
class Verdict:
    """What the first percent of a training says."""

    go: bool
    line: str


class Validation:
    """The same rows for every validation, each with its own time and noise; batches are computed anew, since tokens are large."""

    def __init__(self, config: TrainConfig, context: TrainingContext):
        self._config, self._setting = config, context
        self._batches = context.source.held_out(config.log.validation_samples)
        self.noun = self._rows(None)

    def rows(self, probe: Probe) -> Tensor:
        """The losses [V] with the words of a probe."""
        return self._rows(probe)

    @torch.no_grad()
    def _rows(self, probe: Probe | None) -> Tensor:
        return torch.cat([self._losses(probe, batch) for batch in self._batches]).float().cpu()

    def _losses(self, probe: Probe | None, batch: Batch) -> Tensor:
        config, model = self._config, self._setting.model
        size = sum(len(batch.rows) for batch in self._batches)
        if probe is None:  # the class noun alone: what a probe must beat
            latents = self._setting.latents(batch)
            embeddings = [model.token_embeddings(noun) for noun in batch.nouns]
            width = max(len(row) for row in embeddings)
            embeddings = torch.stack([torch.cat([row, row[-1:].expand(width - len(row), -1)]) for row in embeddings])
        else:
            inputs = self._setting.inputs(probe, batch)
            latents, embeddings = inputs.latents, probe(inputs.features, inputs.nouns)
        t, noise = times_and_noise(config.loss, batch, size, tuple(latents.shape[1:]), len(model.schedule), config.seed, FIXED)
        return denoised(model, config.loss, batch, embeddings, latents, t.to(latents.device), noise.to(latents))


def verdict(before: Tensor, now: Tensor, noun: Tensor, step: int) -> Verdict:
    """Go where the losses [V] have fallen by more than twice the standard error of their differences, pair by pair."""
    fallen = before - now
    error = fallen.std().item() / len(fallen) ** 0.5 if len(fallen) > 1 else float("inf")
    go = fallen.mean().item() > 2 * error
    said = (
        f"after {step} steps the validation loss went from {before.mean():.4f} to {now.mean():.4f} (fell by {fallen.mean():.4f}, standard "
        f"error {error:.4f}; the class noun alone {noun.mean():.4f})"
    )
    advice = "go on" if go else "no-go: it does not fall clearly; check the images and masks (the board shows them), or change --optim.lr"
    return Verdict(go, f"{said}: {advice}")
