"""What a training trains: a network that reads a photo and predicts what makes the frozen model draw its subject.

The probe predicts token embeddings, the hypernetwork weights, InstantBooth's adapter a token and features for layers of its own.

Axes: B rows, L tokens, C latent channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from ..models.adapter import Prompt, TrainableModel


class Reads(Protocol):
    """The part of a configuration that says with which encoders a learner reads images."""

    @property
    def clip(self) -> str: ...

    @property
    def clip_width(self) -> int: ...

    @property
    def dino(self) -> str: ...

    @property
    def dino_width(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Features:
    """A learner's inputs for B reference images: CLIP tokens [B, L, C_c], DINO tokens [B, L, C_d], clean latents [B, C, h, w]."""

    clip: Tensor
    dino: Tensor
    latents: Tensor

    def to(self, device: torch.device) -> Features:
        """The features on a device."""
        return Features(self.clip.to(device), self.dino.to(device), self.latents.to(device))


class Learner(nn.Module):
    """A network to train. `forward(features, nouns)` gives a plain tensor [B, ...] from features and class-noun embeddings [B, d].

    Attributes:
        kind: what a checkpoint and messages call it.
        config: a frozen dataclass that rebuilds the network: `type(learner)(learner.config)`; it has `trained_on` and `licence`.
        reads_latents: whether it reads the references' latents.
    """

    kind: ClassVar[str]
    config: Any

    @property
    def reads_latents(self) -> bool:
        return False

    def blocks(self) -> Sequence[nn.Module]:
        """Its blocks, for activation checkpointing."""
        return ()

    def prompts(self, predicted: Tensor, templates: Sequence[tuple[str, str]], nouns: Sequence[str], model: Any) -> list[Prompt]:
        """The prompts of B rows, whose predicted subject stands between each template's two texts."""
        raise NotImplementedError

    def applied(self, model: TrainableModel, predicted: Tensor) -> AbstractContextManager[None]:
        """While open, what is predicted for B rows acts in the model. Backward passes must end before it closes."""
        return nullcontext()

    def penalty(self, predicted: Tensor) -> Tensor:
        """What the training keeps small besides the loss, a scalar."""
        raise NotImplementedError

    def save(self, path: Path, half: bool = True) -> None:
        """Writes the learner's file, in float16 or (`half=False`) float32."""
        raise NotImplementedError
