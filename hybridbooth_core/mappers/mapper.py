"""The interface of mappers, and the CLIP encoder they use."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

WIDTH = 768  # d of Stable Diffusion 1.5's token embeddings


class Vision(Protocol):
    """CLIP ViT-L/14's vision model, such as `encoders.clip_vit.ClipVision`. `size` is the side of its square input images."""

    size: int

    def embed(self, images: Tensor) -> Tensor:
        """Image embeddings [B, P] of images [B, size, size, 3] in 0..1 in CLIP's joint space, not normalised."""
        ...

    def states(self, images: Tensor, layers: Sequence[int]) -> Tensor:
        """Hidden states [B, len(layers), L, C] after these layers; 0 is the first layer's input."""
        ...


class Mapper(nn.Module):
    """A published network that predicts token embeddings from images.

    Attributes:
        kind: "elite", "phi" or "pic2word".
        source, licence: shown to users; the licence is that of the weights.
        needs_noun: whether the class noun should follow its embeddings, which describe the subject too coarsely alone.
    """

    kind: str
    source: str = ""
    licence: str = ""
    needs_noun: bool = False

    @abstractmethod
    def embeddings(self, vision: Vision, images: Tensor) -> Tensor:
        """Token embeddings [B, n, d] of images [B, vision.size, vision.size, 3] in 0..1."""
