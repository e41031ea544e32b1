"""What every word mapper is, whatever it reads of an image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

WIDTH = 768  # of Stable Diffusion 1.5's words


class Vision(Protocol):
    """CLIP ViT-L/14's vision side, as `encoders.clip_vit.ClipVision` is. `size` is the side of the images it reads."""

    size: int

    def embed(self, images: Tensor) -> Tensor:
        """Images [B, size, size, 3] in 0..1 to their places [B, P] in the shared space, of any length."""
        ...

    def states(self, images: Tensor, layers: Sequence[int]) -> Tensor:
        """The tokens [B, len(layers), L, C] after these layers, 0 being what the first layer reads."""
        ...


class WordMapper(nn.Module):
    """A published network as a frozen module: images to words.

    Attributes:
        kind: "elite", "phi" or "pic2word".
        source, licence: for a person; the licence is that of the weights.
        needs_noun: its words say little, so that the class noun should stand after them.
    """

    kind: str
    source: str = ""
    licence: str = ""
    needs_noun: bool = False

    @abstractmethod
    def embeddings(self, vision: Vision, images: Tensor) -> Tensor:
        """Words [B, n, d] of images [B, vision.size, vision.size, 3] in 0..1."""
