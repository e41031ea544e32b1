"""The fixed part of a training: frozen model and encoders, and the source of batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..encoders.features import FeatureEncoder
from ..models.adapter import ProbeTeacher, class_embedding
from ..probe.learner import Features, Learner
from .batch import Batch, Source
from .objective import Inputs


@dataclass(eq=False)
class TrainingContext:
    """Frozen networks and data. `clip` and `dino` are None if tokens are cached.

    Attributes:
        provenance: description of the data for the exported probe: `trained_on`, `licence`.
    """

    model: ProbeTeacher
    clip: FeatureEncoder | None
    dino: FeatureEncoder | None
    source: Source
    provenance: dict[str, str] = field(default_factory=dict)

    @cached_property
    def _nouns(self) -> dict[str, Tensor]:
        return {}

    def noun(self, word: str) -> Tensor:
        """The embedding [d] of a class noun (cached)."""
        if word not in self._nouns:
            self._nouns[word] = class_embedding(self.model, word)
        return self._nouns[word]

    @torch.no_grad()
    def inputs(self, learner: Learner, batch: Batch) -> Inputs:
        """Features of the references, latents of the targets and class-noun embeddings, on the model's device."""
        device = self.model.device
        features = Features(
            clip=_tokens(self.clip, batch.clip, device),
            dino=_tokens(self.dino, batch.dino, device),
            latents=self._latents(batch.reference) if learner.reads_latents else batch.reference.to(device),
        )
        return Inputs(features, self.latents(batch), torch.stack([self.noun(noun) for noun in batch.nouns]))

    @torch.no_grad()
    def latents(self, batch: Batch) -> Tensor:
        """Latents [B, C, h, w] of the targets."""
        return self._latents(batch.target)

    def _latents(self, given: Tensor) -> Tensor:
        device = self.model.device
        return self.model.encode_image(given.to(device)).float() if is_images(given) else given.to(device).float()


def is_images(given: Tensor) -> bool:
    """True for images [B, H, W, 3], False for tokens or latents."""
    return given.ndim == 4 and given.shape[-1] == 3


def _tokens(encoder: FeatureEncoder | None, given: Tensor, device: torch.device) -> Tensor:
    if not is_images(given):
        return given.to(device).float()
    if encoder is None:
        raise ValueError("expected tokens, found images although no encoder is loaded")
    return encoder(given.to(device)).to(device).float()
