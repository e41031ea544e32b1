"""The denoising loss on fixed images, timesteps and noise, and an early verdict on whether the probe learns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..probe.probe import Probe
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

    def rows(self, probe: Probe) -> Tensor:
        """The losses [V] with a probe's token embeddings."""
        return self._rows(probe)

    @torch.no_grad()
    def _rows(self, probe: Probe | None) -> Tensor:
        return torch.cat([self._losses(probe, batch) for batch in self._batches]).float().cpu()

    def _losses(self, probe: Probe | None, batch: Batch) -> Tensor:
        config, model = self._config, self._context.model
        size = sum(len(batch.rows) for batch in self._batches)
        if probe is None:  # the class noun only, as the baseline
            latents = self._context.latents(batch)
            embeddings = [model.token_embeddings(noun) for noun in batch.nouns]
            width = max(len(row) for row in embeddings)
            embeddings = torch.stack([torch.cat([row, row[-1:].expand(width - len(row), -1)]) for row in embeddings])
        else:
            inputs = self._context.inputs(probe, batch)
            latents, embeddings = inputs.latents, probe(inputs.features, inputs.nouns)
        t, noise = times_and_noise(config.loss, batch, size, tuple(latents.shape[1:]), len(model.schedule), config.seed, FIXED)
        return denoising_losses(model, config.loss, batch, embeddings, latents, t.to(latents.device), noise.to(latents))


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
