"""References that were photographed badly: blurred, noisy, in coloured light, turned, half hidden, flat, or drawn instead.

Axes: H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from torch import Tensor

from hybridbooth_core.encoders.features import Reference, reference
from hybridbooth_core.files.images import to_image
from hybridbooth_core.miniature.evaluate import reference_scene
from hybridbooth_core.miniature.render import render
from hybridbooth_core.miniature.world import Creatures

Photo = tuple[Image.Image, Image.Image]
"""An image and its mask, of one size."""


def _blurred(image: Image.Image, mask: Image.Image, draw: np.random.Generator) -> Photo:
    return image.filter(ImageFilter.GaussianBlur(draw.uniform(1.2, 2.2))), mask


def _noisy(image: Image.Image, mask: Image.Image, draw: np.random.Generator) -> Photo:
    values = np.asarray(image) / 255 + draw.normal(0, draw.uniform(0.12, 0.25), (*image.size[::-1], 3))
    return Image.fromarray((values.clip(0, 1) * 255).astype(np.uint8)), mask


def _coloured(image: Image.Image, mask: Image.Image, draw: np.random.Generator) -> Photo:
    light = draw.permutation([0.55, 0.85, 1.15])
    return Image.fromarray((np.asarray(image) * light).clip(0, 255).astype(np.uint8)), mask


def _turned(image: Image.Image, mask: Image.Image, draw: np.random.Generator) -> Photo:
    angle = draw.choice([-1, 1]) * draw.uniform(25, 60)
    border = tuple(int(value) for value in np.asarray(image)[0, 0])
    return image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=border), mask.rotate(angle, Image.Resampling.BILINEAR)


def _hidden(image: Image.Image, mask: Image.Image, draw: np.random.Generator) -> Photo:
    """A grey board before a third of the subject."""
    image, mask = image.copy(), mask.copy()
    left, top, right, bottom = mask.getbbox() or (0, 0, *image.size)
    side, foot = (left, top, left + (right - left) // 3, bottom), (left, bottom - (bottom - top) // 3, right, bottom)
    box = side if draw.random() < 0.5 else foot
    ImageDraw.Draw(image).rectangle(box, fill=(120, 118, 112))
    ImageDraw.Draw(mask).rectangle(box, fill=0)
    return image, mask


def _flat(image: Image.Image, mask: Image.Image, draw: np.random.Generator) -> Photo:
    return ImageEnhance.Contrast(image).enhance(draw.uniform(0.25, 0.45)), mask


def _drawn(image: Image.Image, mask: Image.Image, draw: np.random.Generator) -> Photo:
    return image.convert("L").convert("RGB"), mask


DEFECTS: dict[str, Callable[[Image.Image, Image.Image, np.random.Generator], Photo]] = {
    "blurred": _blurred, "noisy": _noisy, "coloured": _coloured, "turned": _turned, "hidden": _hidden, "flat": _flat, "drawn": _drawn,
}  # fmt: skip


def bad_reference(who: Creatures, row: int) -> Reference:
    """The creature's usual reference photo with one of `DEFECTS`, which its number chooses."""
    number = int(who.number[row])
    image, mask = render(who[row : row + 1], reference_scene(who, row))
    defect = list(DEFECTS.values())[number % len(DEFECTS)]
    photo, cut = defect(to_image(image[0]), Image.fromarray((mask[0].numpy() * 255).astype(np.uint8)), np.random.default_rng(number))
    return reference(_values(photo)[None], _values(cut)[None])


def _values(image: Image.Image) -> Tensor:
    """Values in 0..1, [H, W, 3] of a colour image or [H, W]."""
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255)
