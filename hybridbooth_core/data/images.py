"""Decodes untrusted image and mask files and crops the square that is stored."""

from __future__ import annotations

import re
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .items import LeftOut

FORMATS = ("JPEG", "PNG", "WEBP")  # the only decoders of Pillow that untrusted bytes reach
MAX_BYTES, MAX_PIXELS = 128 << 20, 1 << 26
ORIENTATION, TRANSPOSED = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap width and height
QUALITY = 95
GREY = 128  # background of transparent images: features.GREY in 8 bits (importing it would import torch)


class Opened:
    """A decoded image, rotated upright by its EXIF tag.

    Attributes:
        size: width and height of the original.
        rgb: the image; large JPEGs are decoded at 1/2, 1/4 or 1/8 of their size, but not below twice the required side.
        mask: its alpha channel, or the mask given to `use_mask`; None otherwise.
    """

    def __init__(self, content: bytes, need: int, min_side: int):
        """Raises LeftOut: the image is too small, too large, or cannot be decoded completely."""
        try:
            with Image.open(BytesIO(content), formats=FORMATS) as file:
                _check_pixels(file)
                width, height = file.size
                if min(width, height) < min_side:
                    raise LeftOut("small", f"{width}x{height} pixels")
                transposed = file.getexif().get(ORIENTATION) in TRANSPOSED
                self.size = (height, width) if transposed else (width, height)
                file.draft("RGB", (2 * need, 2 * need))
                image = ImageOps.exif_transpose(file)
                self.mask = _alpha(image)
                self.rgb = _rgb(image, self.mask)
        except LeftOut:
            raise
        except Image.DecompressionBombError as error:
            raise LeftOut("large", f"more than {MAX_PIXELS} pixels") from error
        except Exception as error:  # Pillow's decoders raise many types, and none may abort a run over a million images
            raise LeftOut("unreadable", _reason(error)) from error

    def use_mask(self, content: bytes) -> None:
        """Sets the mask from a file (255 on the subject, same size as the image); LeftOut if it does not fit."""
        try:
            with Image.open(BytesIO(content), formats=FORMATS) as file:
                _check_pixels(file)
                mask = file.getchannel("A") if file.mode in ("RGBA", "LA") and _alpha(file) else _eight_bits(file).convert("L")
        except LeftOut:
            raise
        except Exception as error:  # as above
            raise LeftOut("mask", _reason(error)) from error
        if mask.size != self.size:
            raise LeftOut("mask", f"it has {mask.width}x{mask.height} pixels, the image {self.size[0]}x{self.size[1]}")
        self.mask = mask


def _check_pixels(file: Image.Image) -> None:
    if file.width * file.height > MAX_PIXELS:
        raise LeftOut("large", f"{file.width}x{file.height} pixels")


def _alpha(image: Image.Image) -> Image.Image | None:
    if not image.has_transparency_data:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema()[0] == 255 else alpha


def _rgb(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    if alpha is None:
        return _eight_bits(image).convert("RGB")
    grey = Image.new("RGBA", image.size, (GREY, GREY, GREY, 255))
    return Image.alpha_composite(grey, image.convert("RGBA")).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits; Pillow's conversion would clip almost all of it to white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of a supported format ({', '.join(FORMATS)})"
    text = re.sub(r"<[^>]*>", "...", str(error)).strip()  # without memory addresses, which differ between runs
    return (text.splitlines() or [type(error).__name__])[0][:160]


def square(opened: Opened, size: int) -> tuple[Image.Image, Image.Image | None]:
    """The largest square of the image, centred on the subject as far as possible, resized to size x size; and the same part of the mask.

    The same crop as `features.target_squares`, in 8 bits.
    """
    width, height = opened.size if opened.mask is None else opened.mask.size
    side = min(width, height)
    weight = None if opened.mask is None else np.asarray(opened.mask)
    left, top = (_start(weight, axis, length, side) for axis, length in ((0, width), (1, height)))
    mask = None if opened.mask is None else _resized(opened.mask, (left, top, side, side), size)
    across, down = opened.rgb.width / width, opened.rgb.height / height  # below 1 if a large JPEG was decoded at reduced size
    return _resized(opened.rgb, (left * across, top * down, side * across, side * down), size), mask


def _resized(image: Image.Image, part: tuple[float, float, float, float], size: int) -> Image.Image:
    """A part (left, top, width, height) of an image, resized. Pixels outside the part do not bleed in."""
    left, top, width, height = map(round, part)
    return image.crop((left, top, left + width, top + height)).resize((size, size), Image.Resampling.BICUBIC)


def _start(mask: np.ndarray | None, axis: int, length: int, side: int) -> int:
    """The start of a square of `side` along x (axis 0) or y (axis 1): centred on the mask [H, W], or on the image without one."""
    centre = length / 2
    if mask is not None and length > side:
        weight = mask.sum(axis, dtype=np.float64)
        if weight.sum() > 0:
            centre = float((weight * (np.arange(length) + 0.5)).sum() / weight.sum())
    return min(max(round(centre - side / 2), 0), length - side)


def jpeg(image: Image.Image) -> bytes:
    """JPEG bytes without EXIF, which may contain the place where a photo was taken."""
    file = BytesIO()
    Image.fromarray(np.asarray(image)).save(file, format="JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def png(mask: Image.Image) -> bytes:
    file = BytesIO()
    Image.fromarray(np.asarray(mask)).save(file, format="PNG")
    return file.getvalue()
