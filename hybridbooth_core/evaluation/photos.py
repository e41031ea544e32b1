"""Reads photos and generated images, and writes small text files."""

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
    """The RGB image of a file, rotated by its EXIF orientation; UserError if the file cannot be read as an image."""
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"the image {path} cannot be read ({error}); restore it, or delete it to generate it again") from error


def reference_photos(paths: Sequence[Path], size: int) -> Reference:
    """A method's input: the centre squares of photos, [B, size, size, 3] in 0..1, without masks."""
    squares = []
    for path in paths:
        values = np.asarray(open_photo(path), dtype=np.float32) / 255
        squares.append(square_crops(torch.from_numpy(values)[None], None, size))
    return reference(torch.cat(squares))


def write_text(text: str, path: Path) -> None:
    """Writes a text file atomically and creates its folder; UserError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another folder with --out") from error
