"""The space that CLIP shares between images and texts: what both are turned into so that they can be compared."""

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
    """What `embed` of `ClipVision` does, whoever does it."""

    size: int

    def embed(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class ClipSpace:
    """Two ways into one space of P numbers; neither normalises what it returns.

    Attributes:
        images: crops [B, size, size, 3] in 0..1 to [B, P].
        size: the side of the squares it reads.
        project_text: end-of-text states [B, d] of the text encoder, after its final layer norm, to [B, P].
    """

    images: Callable[[Tensor], Tensor]
    size: int
    project_text: nn.Module


def load_clip_space(folders: Sequence[Path], clip_vision: ClipImages | None = None) -> ClipSpace:
    """The space of CLIP ViT-L/14, whose text half is Stable Diffusion 1.5's text encoder; P = d = 768. All of it is on the CPU.

    Args:
        folders: where a file of the whole CLIP is looked for. Its text projection is always needed: no other file has it.
        clip_vision: reads the images in place of that file's vision half.
    Raises:
        UserError: the file is missing or damaged.
    """
    path = require_encoder(CLIP_L, folders, CLIP_L.whole)
    vision = clip_vision or load_clip_vision(path)
    return ClipSpace(vision.embed, vision.size, load_text_projection(path))
