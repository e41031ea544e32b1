"""Pages of images, heatmaps, outlines, captions and curves. Uses PIL alone, since ComfyUI does not install matplotlib.

Images are float [H, W, 3] in 0..1; x and y are pixels from the top left of the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from ..files.images import to_image

INK, FAINT, LINE, ACCENT = "#111111", "#8a8a8a", "#3366aa", "#cc3311"
SPAN = 20.0  # percent points that the axis of a curve covers at least
_FINER = 3  # supersampling factor of curves, since PIL does not antialias lines
_HEAT = torch.tensor(  # matplotlib's inferno at 0, 1/8 ... 1
    [[0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164]]
) / 255.0  # fmt: skip


class Page:
    """A white page."""

    def __init__(self, width: int, height: int):
        self.image = Image.new("RGB", (width, height), "white")
        self._draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, text: str, size: float = 13, anchor: str = "la", colour: str = INK, width: float = 0) -> None:
        """Draws lines of text, truncated to `width` (0: no limit). `anchor` is PIL's: "la" left and ascender, "mm" middle."""
        font = ImageFont.load_default(size)
        lines = [_shortened(line, font, width) if width else line for line in text.split("\n")]
        top = y - (len(lines) - 1) * 1.35 * size / 2 if anchor[1] == "m" else y
        for number, line in enumerate(lines):
            self._draw.text((x, top + 1.35 * size * number), line, font=font, fill=colour, anchor=anchor)

    def show(self, image: Tensor, x: int, y: int, width: int, height: int, caption: str = "", size: float = 13) -> None:
        """Draws an image centred in the box and scaled to fit it, with a caption above the box."""
        small = fitted(image, width, height)
        left, top = x + (width - small.shape[1]) // 2, y + (height - small.shape[0]) // 2
        self.image.paste(to_image(small), (left, top))
        if caption:
            self.text(x + width / 2, y - 7, caption, size, "md", width=width)

    def curve(
        self,
        values: Sequence[float],
        x: int,
        y: int,
        width: int,
        height: int,
        caption: str = "",
        size: float = 13,
        first: int = 0,
        stride: float = 1,
    ) -> None:
        """Plots losses over steps in the box, as shares of the first. Skips what is not finite.

        The axis spans at least `SPAN` percent points, so that small changes look small. `first` is the step of the first value, `stride`
        the steps from one value to the next.
        """
        start = next((float(v) for v in values if math.isfinite(v) and v), 1.0)
        shares = [100 * float(v) / start for v in values]
        large = _curve(shares, width * _FINER, height * _FINER, size, first, stride)
        self.image.paste(large.resize((width, height), Image.Resampling.LANCZOS), (x, y))
        if caption:
            self.text(x + width / 2, y - 7, caption, size, "md", width=width)

    def paragraph(self, x: float, y: float, text: str, size: float, width: float, colour: str = INK) -> float:
        """Draws text wrapped to `width`; returns the y below it."""
        for line in wrapped(text, size, width):
            self.text(x, y, line, size, colour=colour, width=width)
            y += 1.35 * size
        return y

    def pixels(self) -> Tensor:
        """The page as an image [H, W, 3]."""
        return torch.from_numpy(np.asarray(self.image, dtype=np.float32) / 255)


def fitted(image: Tensor, width: int, height: int) -> Tensor:
    """Resizes an image to the largest size that fits a box at its aspect ratio."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    resized = to_image(image).resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255)


def with_heatmap(image: Tensor, heat: Tensor) -> Tensor:
    """Overlays a heatmap [h, w] of any scale in the inferno colour map."""
    heat = (heat - heat.min()) / (heat.max() - heat.min()).clamp_min(1e-12)
    heat = F.interpolate(heat[None, None].float(), size=image.shape[:2], mode="bicubic", align_corners=False)[0, 0].clamp(0, 1)
    place = heat * (len(_HEAT) - 1)
    low = place.floor().long().clamp(max=len(_HEAT) - 2)
    colour = torch.lerp(_HEAT[low], _HEAT[low + 1], (place - low)[..., None])
    grey = image.mean(-1, keepdim=True)
    return torch.lerp(0.25 * image + 0.3 * grey, colour, 0.3 + 0.4 * heat[..., None]).clamp(0, 1)


def outlined(image: Tensor, mask: Tensor) -> Tensor:
    """Outlines the mask [h, w] on an image and fades the background."""
    mask = F.interpolate(mask[None, None].float(), size=image.shape[:2], mode="bicubic", antialias=True, align_corners=False)
    mask = mask[0, 0].clamp(0, 1)
    washed = torch.lerp(image.mean(-1, keepdim=True).expand_as(image), torch.ones(3), 0.45)
    inside = (mask > 0.5).float()[None, None]
    reach = 2 * max(1, round(min(image.shape[:2]) / 250)) + 1
    border = F.max_pool2d(inside, reach, 1, reach // 2) + F.max_pool2d(-inside, reach, 1, reach // 2)
    soft = F.avg_pool2d(border, 3, 1, 1, count_include_pad=False)[0, 0, ..., None]
    accent = torch.tensor([int(ACCENT[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return torch.lerp(torch.lerp(washed, image, mask[..., None]), accent, soft)


def mosaic(images: Sequence[Tensor], width: int, height: int, gap: int = 6) -> Tensor:
    """A grid of the first nine images in a box, with white gaps."""
    if len(images) == 1:
        return fitted(images[0], width, height)
    shown = images[:9]
    columns = math.ceil(math.sqrt(len(shown)))
    rows = math.ceil(len(shown) / columns)
    cell = ((width - gap * (columns - 1)) // columns, (height - gap * (rows - 1)) // rows)
    page = Page(width, height)
    for index, image in enumerate(shown):
        page.show(image, index % columns * (cell[0] + gap), index // columns * (cell[1] + gap), *cell)
    return page.pixels()


def _shortened(line: str, font, width: float) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line.rstrip()}…"


def wrapped(text: str, size: float, width: float) -> list[str]:
    """The lines of a text, none wider than `width` unless a single word is."""
    font, lines = ImageFont.load_default(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _curve(shares: list[float], width: int, height: int, size: float, first: int, stride: float) -> Image.Image:
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    points = [(i, v) for i, v in enumerate(shares) if math.isfinite(v)]
    if not points:
        return image
    font, unit = ImageFont.load_default(0.85 * size * _FINER), _FINER
    low, high = min(v for _, v in points), max(v for _, v in points)
    low = min(low, high - SPAN)
    ticks, decimals = _ticks(low, high)
    labels = [f"{tick:.{decimals}f} %" for tick in ticks]
    left, bottom = max(font.getlength(label) for label in labels) + 12 * unit, height - (10 + 1.1 * size) * unit
    right, top = width - 10 * unit, 10 * unit

    def at(i: float, v: float) -> tuple[float, float]:
        along = i / (len(shares) - 1) if len(shares) > 1 else 0.5
        across = (v - low) / (high - low)
        return left + 8 * unit + (right - left - 16 * unit) * along, bottom - 8 * unit - (bottom - top - 16 * unit) * across

    for tick, label in zip(ticks, labels, strict=True):
        y = at(0, tick)[1]
        draw.line([(left, y), (right, y)], fill="#e8e8e8", width=unit)
        draw.text((left - 6 * unit, y), label, font=font, fill=INK, anchor="rm")
    widest = font.getlength(f"{first + stride * len(shares):.0f}") + 12 * unit
    for i in range(0, len(shares), max(1, math.ceil((len(shares) - 1) * widest / (right - left)))):
        draw.text((at(i, low)[0], bottom + 5 * unit), f"{first + stride * i:.0f}", font=font, fill=INK, anchor="ma")
    draw.line([(left, top), (left, bottom), (right, bottom)], fill=FAINT, width=unit)
    draw.line([at(*point) for point in points], fill=LINE, width=2 * unit, joint="curve")
    for i, v in points:
        _disc(draw, at(i, v), (3.5 if len(points) <= 20 else 2) * unit, fill=LINE)
    return image


def _disc(draw: ImageDraw.ImageDraw, middle: tuple[float, float], radius: float, **look) -> None:
    draw.ellipse([middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius], **look)


def _ticks(low: float, high: float) -> tuple[list[float], int]:
    """Up to five round numbers in low..high, and their number of decimals."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    ticks = [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]
    return ticks, max(0, -math.floor(math.log10(step) + 1e-9))
