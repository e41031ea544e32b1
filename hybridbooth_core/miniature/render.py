"""Renders the miniature world: anti-aliased images and exact subject masks from creatures and scenes.

Shapes are signed distances (negative inside) in units of half the image's width, converted to coverage over one pixel. Kinds and patterns
are computed only for the images that need them, for about 1000 images/s on one core.

Axes: B images, H W height and width (equal), 3 RGB in 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .world import ACCESSORIES, BACKGROUNDS, KINDS, PATTERNS, PLACES, SIZES, STYLES, Creatures, Scenes

SIZE = 64  # pixels a side


def render(creatures: Creatures, scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Renders each creature in its scene.

    Returns:
        images float32 [B, H, W, 3] in 0..1, and masks float32 [B, H, W] in 0..1: the fraction of each pixel covered by the creature,
        without its accessory.
    Raises:
        ValueError: the batches differ in length.
    """
    if len(creatures) != len(scenes):
        raise ValueError(f"expected as many scenes as creatures, found {len(scenes)} and {len(creatures)}")
    canvas = _Canvas(_backgrounds(scenes))
    x, y, u, v, scale = _body_frame(scenes)
    body, second = _colours(creatures)
    dark = body * 0.25

    ground = _ellipse(x - _column(scenes, 0), y - (_column(scenes, 1) + 1.02 * scale), 1.05 * scale, 0.16 * scale)
    canvas.paint(ground, torch.zeros(3), opacity=0.35, softness=4.0)

    torso, extras = _silhouettes(creatures, u, v)
    torso, extras = torso * scale, extras * scale  # to image units, so that edges are one pixel wide at every size
    outline = 0.035
    canvas.paint(torch.minimum(torso, extras) - outline, dark, creature=True)
    canvas.paint(extras, second, creature=True)
    shade = (1.08 - 0.28 * (0.6 * u + 0.8 * v).clamp(-1, 1)).unsqueeze(-1)  # lit from the upper left
    soft = _pattern(creatures, u, v).mul(scale * SIZE / 2).add(0.5).clamp(0, 1).unsqueeze(-1)
    coat = body + (second - body) * soft
    canvas.paint(torso, (coat * shade).clamp(0, 1), creature=True)
    _face(canvas, creatures, u, v, scale, dark)
    _accessories(canvas, creatures, scenes, u, v, scale)
    return _styled(canvas.image, scenes), canvas.mask


class _Canvas:
    """A batch of images being painted, and the creatures' masks."""

    def __init__(self, image: Tensor):
        self.image = image
        self.mask = torch.zeros(image.shape[:3])

    def paint(self, distance: Tensor, colour: Tensor, creature: bool = False, opacity: float = 1.0, softness: float = 1.0) -> None:
        """Paints `colour` (broadcastable to [B, H, W, 3]) where `distance` [B, H, W] is negative; `softness` is the edge in pixels."""
        cover = (0.5 - distance * (SIZE / 2 / softness)).clamp(0, 1) * opacity
        self.image = self.image + (colour - self.image) * cover.unsqueeze(-1)
        self.mask = self.mask + (float(creature) - self.mask) * (cover if creature or opacity == 1.0 else 0.0)


def _grid() -> tuple[Tensor, Tensor]:
    """x and y of the pixel centres, [1, H, W] each, in -1..1; y points down."""
    centres = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return x[None], y[None]


def _column(scenes: Scenes, axis: int) -> Tensor:
    """The creature's centre [B, 1, 1] along x (axis 0: left, middle, right) or y (axis 1)."""
    place = (scenes.place - 1) * 0.42 if axis == 0 else torch.full_like(scenes.jitter[:, 1], 0.3)
    return (place + 0.05 * scenes.jitter[:, axis])[:, None, None]


def _body_frame(scenes: Scenes) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Image coordinates x, y [1, H, W], body coordinates u, v [B, H, W] in radii from the creature's centre, and the radius [B, 1, 1]."""
    x, y = _grid()
    assert SIZES == ("small", "big") and PLACES == ("left", "middle", "right")
    scale = (torch.where(scenes.size == 1, 0.52, 0.37) * (1 + 0.06 * scenes.jitter[:, 2]))[:, None, None]
    return x, y, (x - _column(scenes, 0)) / scale, (y - _column(scenes, 1)) / scale, scale


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """RGB [..., 3] in 0..1 from hue, saturation and value in 0..1 of equal shapes."""
    k = (torch.tensor([5.0, 3.0, 1.0]) + hue.unsqueeze(-1) * 6) % 6
    return value.unsqueeze(-1) * (1 - saturation.unsqueeze(-1) * torch.minimum(k, 4 - k).clamp(0, 1))


def _colours(creatures: Creatures) -> tuple[Tensor, Tensor]:
    """Body colour and second colour, [B, 1, 1, 3] each."""
    rgb = hsv_to_rgb(creatures.hue, creatures.saturation, creatures.value)
    return rgb[:, 0, None, None], rgb[:, 1, None, None]


def _ellipse(x: Tensor, y: Tensor, a, b) -> Tensor:
    """Approximate signed distance to an axis-aligned ellipse with half axes a, b: exact in sign, accurate near the edge."""
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    k = ((x / a) ** 2 + (y / b) ** 2).clamp_min(1e-12).sqrt()
    slope = ((x / a**2) ** 2 + (y / b**2) ** 2).clamp_min(1e-12).sqrt()
    return k * (k - 1) / slope


def _box(x: Tensor, y: Tensor, a, b, round_by: float = 0.0) -> Tensor:
    """Signed distance to a rectangle with half sides a, b and rounded corners."""
    dx, dy = x.abs() - (a - round_by), y.abs() - (b - round_by)
    return (dx.clamp_min(0) ** 2 + dy.clamp_min(0) ** 2).sqrt() + torch.maximum(dx, dy).clamp_max(0) - round_by


def _triangle(x: Tensor, y: Tensor, half_base, height) -> Tensor:
    """Signed distance, exact near the edges, to a triangle with its base on y = 0 and its tip at y = -height."""
    half_base, height = torch.as_tensor(half_base), torch.as_tensor(height)
    side = (x.abs() * height - (y + height) * half_base) / (height**2 + half_base**2).sqrt()
    return torch.maximum(side, y)


def _half_axes(creatures: Creatures) -> tuple[Tensor, Tensor]:
    """Half width and half height [B, 1, 1] of the torso in body radii; proportions differ by kind."""
    widths = torch.tensor([0.95, 0.74, 0.80, 1.08])
    heights = torch.tensor([0.84, 0.98, 0.82, 0.68])
    stretch = torch.exp((creatures.aspect - 0.5) * 0.5)
    return (widths[creatures.kind] * stretch)[:, None, None], (heights[creatures.kind] / stretch)[:, None, None]


def _silhouettes(creatures: Creatures, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Signed distances [B, H, W] in body radii to the torso and to its extras (ears, antenna, tail), by kind."""
    torso, extras = torch.empty_like(u), torch.empty_like(u)
    width, height = _half_axes(creatures)
    ear = creatures.ear[:, None, None]
    for kind, name in enumerate(KINDS):
        rows = creatures.kind == kind
        if rows.any():
            torso[rows], extras[rows] = _SHAPES[name](u[rows], v[rows], width[rows], height[rows], ear[rows])
    return torso, extras


def _cat(u, v, a, b, ear):
    ears = _triangle(u.abs() - 0.66 * a, v + 0.55 * b, 0.34 * a, 0.60 + 0.55 * ear)
    return _ellipse(u, v, a, b), ears


def _rabbit(u, v, a, b, ear):
    length = 0.42 + 0.36 * ear
    ears = _ellipse(u.abs() - 0.58 * a, v + 0.66 * b + length, 0.19, length + 0.16)
    return _ellipse(u, v, a, b), ears


def _robot(u, v, a, b, ear):
    length = 0.18 + 0.5 * ear
    rod = _box(u, v + b + length / 2, 0.07, length / 2 + 0.05)
    ball = _ellipse(u, v + b + length + 0.1, 0.17, 0.17)
    bolts = _box(u.abs() - a - 0.08, v, 0.14, 0.24, 0.05)
    return _box(u, v, a, b, 0.18), torch.minimum(torch.minimum(rod, ball), bolts)


def _fish(u, v, a, b, ear):
    length = 0.45 + 0.45 * ear
    behind = u - a + 0.15
    tail = torch.maximum(v.abs() - 0.16 - 0.62 * behind / length, torch.maximum(-0.15 - behind, behind - length))
    fin = _triangle(u + 0.05, v + 0.8 * b, 0.42, 0.42)
    return _ellipse(u, v, a, b), torch.minimum(tail, fin)


_SHAPES: dict[str, Callable] = {"cat": _cat, "rabbit": _rabbit, "robot": _robot, "fish": _fish}


def _pattern(creatures: Creatures, u: Tensor, v: Tensor) -> Tensor:
    """The pattern of the second colour: a field [B, H, W], positive inside, approximately a distance in body radii near its edges.

    The pattern is fixed to the body, so a creature looks the same at every place and size.
    """
    field = torch.full_like(u, -1.0)
    period = (0.92 - 0.42 * creatures.frequency)[:, None, None]
    for index, name in enumerate(PATTERNS):
        rows = creatures.pattern == index
        if not rows.any() or name == "plain":
            continue
        w = 2 * math.pi / period[rows]
        x, y = u[rows], v[rows]
        if name == "striped":
            value = -torch.cos(w * x) / w
        elif name == "banded":
            value = torch.sin(w * y) / w
        elif name == "spotted":
            value = (torch.cos(w * x * 0.8) + torch.cos(w * y * 0.8) - 0.5) / w
        elif name == "checked":
            value = torch.sin(w * x * 0.75) * torch.sin(w * y * 0.75) / w * 1.5
        else:
            value = y + 0.4 - 0.8 * creatures.frequency[rows][:, None, None]
        field[rows] = value
    return field


def _face(canvas: _Canvas, creatures: Creatures, u: Tensor, v: Tensor, scale: Tensor, dark: Tensor) -> None:
    """Paints eyes and a mouth. A fish is shown from the side, with one eye."""
    width, height = _half_axes(creatures)
    fish = (creatures.kind == KINDS.index("fish"))[:, None, None]
    radius = 0.17 + 0.15 * creatures.eye[:, None, None]
    eye_u = torch.where(fish, u + 0.55 * width, u.abs() - 0.40 * width)
    eye_v = v + 0.22 * height
    white, black = torch.ones(3), torch.full((3,), 0.06)
    canvas.paint((_ellipse(eye_u, eye_v, radius, radius) - 0.05) * scale, dark, creature=True)
    canvas.paint(_ellipse(eye_u, eye_v, radius, radius) * scale, white, creature=True)
    canvas.paint(_ellipse(eye_u, eye_v, radius * 0.58, radius * 0.58) * scale, black, creature=True)
    mouth_u = torch.where(fish, u + 0.85 * width, u)
    smile = torch.maximum(_ellipse(mouth_u, v - 0.30 * height, 0.22, 0.20), -(v - 0.34 * height))
    canvas.paint(smile * scale, dark, creature=True)


def _accessories(canvas: _Canvas, creatures: Creatures, scenes: Scenes, u: Tensor, v: Tensor, scale: Tensor) -> None:
    """Paints a black top hat with a red band, or a golden crown, on the torso."""
    _, height = _half_axes(creatures)
    top = v + height - 0.06
    nothing = torch.full_like(u, 9.0)
    hat = (scenes.accessory == ACCESSORIES.index("hat"))[:, None, None]
    brim = _box(u, top + 0.04, 0.48, 0.08, 0.04)
    tube = _box(u, top + 0.36, 0.30, 0.34, 0.03)
    band = _box(u, top + 0.18, 0.30, 0.10)
    canvas.paint(torch.where(hat, torch.minimum(brim, tube) * scale, nothing), torch.full((3,), 0.08))
    canvas.paint(torch.where(hat, band * scale, nothing), torch.tensor([0.85, 0.10, 0.12]))
    crown = (scenes.accessory == ACCESSORIES.index("crown"))[:, None, None]
    zigzag = (torch.remainder(u + 0.14, 0.28) - 0.14).abs() * 1.9  # three teeth
    teeth = torch.maximum(_box(u, top + 0.22, 0.40, 0.30), -(top + 0.52 - zigzag))
    canvas.paint(torch.where(crown, (teeth - 0.04) * scale, nothing), torch.tensor([0.45, 0.30, 0.02]))
    canvas.paint(torch.where(crown, teeth * scale, nothing), torch.tensor([1.0, 0.82, 0.15]))


def _backgrounds(scenes: Scenes) -> Tensor:
    """Textured backgrounds [B, H, W, 3], coarse enough for an 8x8 latent."""
    x, y = _grid()
    light = 1.06 - 0.14 * (y + 1) / 2
    plates = torch.stack([_BACKGROUNDS[name](x[0], y[0]) for name in BACKGROUNDS])
    return (plates * light[0].unsqueeze(-1)).clamp(0, 1)[scenes.background]


def _mix(low: tuple[float, float, float], high: tuple[float, float, float], amount: Tensor) -> Tensor:
    a, b = torch.tensor(low), torch.tensor(high)
    return a + (b - a) * amount.clamp(0, 1).unsqueeze(-1)


def _grass(x, y):
    return _mix((0.24, 0.56, 0.17), (0.38, 0.70, 0.26), 0.5 + 0.5 * torch.sin(18 * x + 1.6 * torch.sin(7 * y)))


def _snow(x, y):
    return _mix((0.80, 0.86, 0.95), (0.97, 0.98, 1.0), 0.5 + 0.5 * torch.sin(5 * y + 1.5 * torch.sin(3 * x)))


def _sand(x, y):
    return _mix((0.84, 0.68, 0.42), (0.96, 0.85, 0.60), 0.5 + 0.5 * torch.sin(14 * y + 1.6 * torch.sin(5 * x)))


def _brick(x, y):
    row = torch.floor((y + 1) * 4)
    across = torch.remainder((x + 1) * 2 + 0.5 * torch.remainder(row, 2), 1.0)
    down = torch.remainder((y + 1) * 4, 1.0)
    mortar = torch.minimum(torch.minimum(across, 1 - across) * 16, torch.minimum(down, 1 - down) * 8)
    return _mix((0.84, 0.76, 0.70), (0.68, 0.30, 0.24), mortar - 0.3)


def _water(x, y):
    return _mix((0.10, 0.34, 0.72), (0.26, 0.56, 0.88), 0.5 + 0.5 * torch.sin(15 * y + 1.8 * torch.sin(4 * x)))


def _space(x, y):
    image = _mix((0.03, 0.02, 0.10), (0.10, 0.06, 0.26), 0.5 + 0.5 * torch.sin(2 * x + 3 * y))
    for star in range(14):  # fixed positions, since prompts do not describe them
        sx, sy = math.sin(12.9898 * star + 1) * 0.95, math.sin(78.233 * star + 2) * 0.95
        image = image + (0.3 - (((x - sx) ** 2 + (y - sy) ** 2).sqrt() * SIZE / 2 - 1.0)).clamp(0, 1).unsqueeze(-1)
    return image


_BACKGROUNDS: dict[str, Callable] = {"grass": _grass, "snow": _snow, "sand": _sand, "brick": _brick, "water": _water, "space": _space}


def _styled(image: Tensor, scenes: Scenes) -> Tensor:
    """Applies the style: a sketch is greyscale, night dark and blue, sunset warm."""
    image = image.clamp(0, 1)
    grey = (image * torch.tensor([0.30, 0.59, 0.11])).sum(-1, keepdim=True)
    styles = {
        "photo": image,
        "sketch": (0.12 + 0.88 * grey).expand_as(image),
        "night": image * torch.tensor([0.38, 0.42, 0.62]),
        "sunset": image * torch.tensor([1.0, 0.74, 0.52]) + torch.tensor([0.10, 0.03, 0.0]),
    }
    for index, name in enumerate(STYLES):
        image = torch.where((scenes.style == index)[:, None, None, None], styles[name], image)
    return image.clamp(0, 1).contiguous()
