"""Images from and to files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .atomic import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    ImageLike = str | Path | Image.Image | NDArray[Any] | Tensor
    """What the library takes as an image: a path, a PIL image, an array or a tensor; see `as_images`."""


def load_image(path: Path, channels: str | None = None) -> Tensor:
    """An image file as [1, H, W, C] in 0..1, C = 1, 3 or 4 as in the file (or in the PIL mode `channels`).

    Raises:
        UserError: there is no such file, or it is no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            return _pixels(file, channels)
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is no image that can be read; use a PNG, JPEG or WebP file") from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"the image {path} cannot be read ({reason}); check its name, or save it again as PNG") from error


def as_images(given: ImageLike | Sequence[ImageLike], channels: str | None = None) -> Tensor:
    """Images as one tensor [B, H, W, C] in 0..1, C = 1, 3 or 4.

    Args:
        given: one image or several of one size: paths, PIL images, arrays or tensors [H, W], [H, W, C] or [B, H, W, C]. Integers count
            up to 255, floating-point numbers up to 1.
        channels: "L" for masks: files and PIL images become grey, and an array may be [B, H, W].
    Raises:
        UserError: a file that cannot be read, an array of another shape, or images of several sizes.
    """
    import torch

    several: Sequence[Any] = given if isinstance(given, list | tuple) else [given]
    images = [_tensor_of(image, channels) for image in several]
    if not images:
        raise UserError("expected at least one image, found none; give one of the subject")
    if len({tuple(image.shape[1:]) for image in images}) > 1:
        raise UserError("expected images of one size and kind, found several; crop them to one")
    return torch.cat(images)


def _tensor_of(image: ImageLike, channels: str | None) -> Tensor:
    import numpy as np
    import torch

    if isinstance(image, str | Path):
        return load_image(Path(image), channels)
    if hasattr(image, "getbands"):  # a PIL image
        return _pixels(image, channels)
    values = torch.as_tensor(image if isinstance(image, torch.Tensor) else np.asarray(image)).detach().cpu()
    given = list(values.shape)
    values = values.float() if values.is_floating_point() else values.float() / 255
    if values.ndim == 2 or (values.ndim == 3 and channels == "L" and values.shape[-1] not in (1, 3, 4)):
        values = values[..., None]
    if values.ndim == 3:
        values = values[None]
    if values.ndim != 4 or values.shape[-1] not in (1, 3, 4):
        raise UserError(f"expected an image [H, W], [H, W, C] or [B, H, W, C] with 1, 3 or 4 channels last, found {given}")
    return values


def _pixels(image: Any, channels: str | None) -> Tensor:
    """A PIL image as [1, H, W, C] in 0..1, upright."""
    import numpy as np
    import torch
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips instead of scaling
        return torch.from_numpy(np.asarray(image, dtype=np.float32) / 65535)[None, ..., None]
    mode = channels or ("L" if image.mode in ("1", "L") else "RGBA" if image.has_transparency_data else "RGB")
    values = np.asarray(image.convert(mode), dtype=np.float32) / 255
    return torch.from_numpy(values.reshape(1, *values.shape[:2], -1).copy())


def to_image(image: Tensor) -> Image.Image:
    """[H, W, 3] in 0..1 as PIL's 8-bit RGB."""
    from PIL import Image

    return Image.fromarray((image.clamp(0, 1) * 255).round().byte().cpu().numpy())


def save_image(image: Tensor | Image.Image, path: Path, facts: Mapping[str, str] | None = None) -> None:
    """Write [H, W, 3] in 0..1, or a PIL image, as a PNG, whole or not at all. `facts` become its text entries.

    Raises:
        UserError: the place cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    if not path.parent.is_dir():
        raise UserError(f"the folder {path.parent} does not exist; make it, or choose another place")
    info = PngInfo()
    for name, text in (facts or {}).items():
        info.add_itxt(name, text)
    drawn: Any = image if hasattr(image, "getbands") else to_image(image)  # type: ignore[arg-type]
    try:
        with atomic(path) as file:
            drawn.save(file, format="PNG", pnginfo=info)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); free some space, or choose another place") from error


def output_file(path: Path, ending: str, overwrite: bool) -> Path:
    """Returns `path` if a file with this ending can be made there; called before any work is done.

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
