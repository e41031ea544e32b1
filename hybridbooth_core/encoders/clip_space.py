"""CLIP's joint embedding space of images and texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from .catalogue import CLIP_L
from .clip_vit import load_clip_vision, load_text_projection
from .files import require_encoder


class ClipImages(Protocol):
    """An encoder of images into CLIP's joint space, such as `ClipVision`."""

    size: int

    def embed(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class ClipSpace:
    """Encoders of images and texts into one space of width P. The outputs are not normalised.

    Attributes:
        images: maps square images [B, size, size, 3] in 0..1 to [B, P].
        size: side of these images in pixels.
        project_text: maps the text encoder's end-of-text states [B, d], after its final layer norm, to [B, P].
    """

    images: Callable[[Tensor], Tensor]
    size: int
    project_text: nn.Module


def load_clip_space(folders: Sequence[Path], clip_vision: ClipImages | None = None) -> ClipSpace:
    """The joint space of CLIP ViT-L/14, on the CPU; P = d = 768. Its text encoder is Stable Diffusion 1.5's.

    Args:
        folders: searched for a file of the whole CLIP model, which is required: no other file has the text projection.
        clip_vision: encodes the images instead of that file's vision model.
    Raises:
        UserError: the file is missing or damaged.
    """
    path = require_encoder(CLIP_L, folders, CLIP_L.whole)
    vision = clip_vision or load_clip_vision(path)
    return ClipSpace(vision.embed, vision.size, load_text_projection(path))
