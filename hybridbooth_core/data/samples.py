"""Reads one image of a source, and decides whether and how it is stored."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np

from ..errors import UserError
from .images import MAX_BYTES, Opened, jpeg, png, square
from .items import Facts, Item, LeftOut
from .masks import MaskMaker
from .quality import blur_effect

MAX_NOTES = 1 << 20
SIZES = range(64, 2049, 8)


@dataclass(frozen=True)
class Standards:
    """Which images are kept, and how they are stored.

    Attributes:
        size: side of the stored squares; the image size of the base model, 512 for Stable Diffusion 1.5.
        min_side: minimum of the original's shorter side in pixels; 0 stands for `size`, so that no image is upscaled.
        area: minimum and maximum fraction of the square that the mask covers; only for images with a mask.
        max_blur: see `quality.blur_effect`; 1 keeps all. Most sharp photos are below 0.45; a blur of 2 pixels at side 512 gives 0.65.
        class_word, licence: defaults for images without their own.
    """

    size: int = 512
    min_side: int = 0
    area: tuple[float, float] = (0.1, 0.7)
    max_blur: float = 0.6
    class_word: str | None = None
    licence: str | None = None

    def __post_init__(self):
        if self.size not in SIZES:
            raise UserError(f"expected a size from {SIZES[0]} to {SIZES[-1]} in steps of 8, found {self.size}; use 512 for SD1.5")
        if not 0 <= self.min_side <= 65536:
            raise UserError(f"expected a minimum side from 0 to 65536 pixels, found {self.min_side}")
        if not 0.001 <= self.area[0] < self.area[1] <= 0.999:
            raise UserError(f"expected the area as two increasing numbers from 0.001 to 0.999, found {self.area[0]} and {self.area[1]}")
        if not 0 < self.max_blur <= 1:
            raise UserError(f"expected a maximum blur above 0 and up to 1, found {self.max_blur}")
        try:
            Facts.parse({"class_word": self.class_word, "licence": self.licence})
        except LeftOut as error:
            raise UserError(f"the class noun or the licence cannot be used: {error.detail}") from error


@dataclass(frozen=True)
class Sample:
    """The stored form of an image: JPEG bytes, PNG bytes of the mask or None, and its description."""

    image: bytes
    mask: bytes | None
    notes: dict[str, str | int | float | None] = field(default_factory=dict)


def read_sample(item: Item, standards: Standards, maker: MaskMaker | None) -> Sample:
    """Reads, checks and crops an image.

    Args:
        maker: makes masks for images without one.
    Raises:
        LeftOut: the image is not kept.
    """
    if item.problem or item.image is None:
        raise LeftOut("unreadable", item.problem)
    facts = _facts(item).over(Facts(class_word=standards.class_word, source=item.name, licence=standards.licence))
    opened = Opened(item.image.read(MAX_BYTES), standards.size, standards.min_side or standards.size)
    if item.mask is not None:
        try:
            opened.use_mask(item.mask.read(MAX_BYTES))
        except LeftOut as error:
            raise LeftOut("mask", error.detail) from error
    elif opened.mask is None and maker is not None:
        opened.mask = maker(opened.rgb)
    image, mask = square(opened, standards.size)
    weight = None if mask is None else np.asarray(mask, dtype=np.float32) / 255
    area = None if weight is None else float(weight.mean(dtype=np.float64))
    if area is not None and not standards.area[0] <= area <= standards.area[1]:
        raise LeftOut("area", f"the subject covers {area:.3f} of the square")
    blur = blur_effect(np.asarray(image.convert("L")), weight)
    if blur > standards.max_blur:
        raise LeftOut("blur", f"blur {blur:.3f}")
    names = ("identity", "class_word", "source", "licence", "prompt")
    notes = {name: getattr(facts, name) for name in names}
    figures = {"width": opened.size[0], "height": opened.size[1], "area": None if area is None else round(area, 4), "blur": round(blur, 4)}
    return Sample(jpeg(image), None if mask is None else png(mask), {**notes, **figures})


def _facts(item: Item) -> Facts:
    if item.notes is None:
        return item.facts
    try:
        entry = json.loads(item.notes.read(MAX_NOTES))
    except (ValueError, RecursionError) as error:
        raise LeftOut("unreadable", "its description is not JSON") from error
    return Facts.parse(entry).over(item.facts)
