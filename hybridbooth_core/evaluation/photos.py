"""Photos of the dataset and images that were drawn, from and to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ..encoders.features import Reference, reference, square_crops
from ..errors import UserError
from ..files.atomic import write_atomic


def open_photo(path: Path) -> Image.Image:
    """An RGB image, upright; UserError if the file is no image."""
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"the image {path} cannot be read ({error}); get it again, or remove it to have it drawn again") from error


def reference_photos(paths: Sequence[Path], size: int) -> Reference:
    """What a method is given: the centre squares of photos, [B, size, size, 3] in 0..1; the dataset has no masks."""
    squares = []
    for path in paths:
        values = np.asarray(open_photo(path), dtype=np.float32) / 255
        squares.append(square_crops(torch.from_numpy(values)[None], None, size))
    return reference(torch.cat(squares))


def write_text(text: str, path: Path) -> None:
    """A small text file, whole or not at all; UserError if the place cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another place with --out") from error
