"""Images from and to files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def load_image(path: Path, channels: str | None = None) -> Tensor:
    """An image file as [1, H, W, C] in 0..1, C = 1, 3 or 4 as in the file (or in the PIL mode `channels`).

    Raises:
        UserError: there is no such file, or it is no image.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            mode = channels or ("L" if image.mode in ("1", "L", "I;16") else "RGBA" if image.has_transparency_data else "RGB")
            values = np.asarray(image.convert(mode), dtype=np.float32) / 255
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is no image that can be read; use a PNG, JPEG or WebP file") from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"the image {path} cannot be read ({reason}); check its name, or save it again as PNG") from error
    return torch.from_numpy(values.reshape(1, *values.shape[:2], -1).copy())


def save_image(image: Tensor, path: Path) -> None:
    """Write [H, W, 3] in 0..1 as a PNG in one stroke; UserError if the place cannot be written."""
    from ..report.drawing import write_image

    if not path.parent.is_dir():
        raise UserError(f"the folder {path.parent} does not exist; make it, or choose another place")
    write_image(image, path)


def output_file(path: Path, ending: str, overwrite: bool) -> Path:
    """`path` if a file with this ending can be made there; told before any work is done.

    Raises:
        UserError: another ending, a missing or write-protected folder, or the file exists and `overwrite` is off.
    """
    if path.suffix.lower() != ending:
        raise UserError(f"expected an output file that ends in {ending}, found {path.name!r}")
    if not path.parent.is_dir():
        raise UserError(f"the folder {path.parent} does not exist; make it, or choose another place")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already; choose another name, or add --overwrite")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"the folder {path.parent} cannot be written; choose another place")
    return path
