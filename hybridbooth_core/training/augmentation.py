"""What the encoders see of an image: its subject nearer or farther, mirrored, in other light, before another background.

Only the reference is varied so; what the words must draw stays as it is. Light changes all colours alike, since hue tells subjects apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoders.features import GREY, MARGIN, square_crops
from .config import Data

MARGINS = (0.02, 0.3)  # of the subject's box; a person's image is cropped with features.MARGIN
LIGHT = 0.2  # most by which brightness and contrast change
BACKGROUNDS = ("noise", "colour", "picture")


@dataclass(frozen=True, eq=False)
class Augmentation:
    """One way to look at an image. `backdrop` [S, S, 3] stands behind the subject, None is grey."""

    whole: bool = False
    margin: float = MARGIN
    mirrored: bool = False
    brightness: float = 0.0
    contrast: float = 1.0
    backdrop: Tensor | None = None


def draw_augmentation(
    data: Data, generator: torch.Generator, side: int, others: Sequence[Callable[[], Tensor]], light: bool = True
) -> Augmentation:
    """A look by chance.

    Args:
        side: S of the backdrop. others: ways to get images [S', S', 3] that may stand behind the subject; only the chosen one is got.
    """
    whole, varied, behind = (torch.rand(3, generator=generator) < torch.tensor([1 - data.masked, data.augment, data.background])).tolist()
    chance = torch.rand(4, generator=generator).tolist()
    backdrop = _backdrop(generator, side, others) if behind and not whole else None
    if not varied:
        return Augmentation(whole, backdrop=backdrop)
    brightness, contrast = ((chance[2] * 2 - 1) * LIGHT, 1 + (chance[3] * 2 - 1) * LIGHT) if light else (0.0, 1.0)
    return Augmentation(whole, MARGINS[0] + (MARGINS[1] - MARGINS[0]) * chance[0], chance[1] < 0.5, brightness, contrast, backdrop)


def _backdrop(generator: torch.Generator, side: int, others: Sequence[Callable[[], Tensor]]) -> Tensor:
    kind = BACKGROUNDS[int(torch.randint(len(BACKGROUNDS) if others else 2, (), generator=generator))]
    if kind == "noise":
        return torch.rand(side, side, 3, generator=generator)
    if kind == "colour":
        return torch.rand(1, 1, 3, generator=generator).expand(side, side, 3)
    return others[int(torch.randint(len(others), (), generator=generator))]()


def augmented(image: Tensor, mask: Tensor | None, augmentation: Augmentation, size: int) -> Tensor:
    """An image [S, S, 3] by its mask [S, S] (None: it has none) as an encoder sees it, [size, size, 3] in 0..1."""
    given = None if mask is None or augmentation.whole else mask[None]
    crop = square_crops(image[None], given, size, augmentation.margin)[0]
    if augmentation.contrast != 1 or augmentation.brightness:
        crop = ((crop - GREY) * augmentation.contrast + GREY + augmentation.brightness).clamp(0, 1)
    if given is not None and (augmentation.backdrop is not None or augmentation.brightness):
        # A crop of white on grey tells where the crop shows the subject, and how much of it.
        inside = (square_crops(torch.ones_like(image[None, ..., :1]), given, size, augmentation.margin)[0] - GREY) / (1 - GREY)
        behind = torch.full_like(crop, GREY) if augmentation.backdrop is None else square_crops(augmentation.backdrop[None], None, size)[0]
        grey = GREY + augmentation.brightness  # what the light made of the background
        crop = (crop + (behind - grey) * (1 - inside)).clamp(0, 1)
    return crop.flip(1) if augmentation.mirrored else crop


def augmented_batch(images: Sequence[Tensor], masks: Sequence[Tensor | None], augmentations: Sequence[Augmentation], size: int) -> Tensor:
    """`seen` of B images, [B, size, size, 3]."""
    return torch.stack([augmented(*row, size) for row in zip(images, masks, augmentations, strict=True)])
