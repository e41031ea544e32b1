"""Augmentation of the reference images that the encoders see: zoom, flip, brightness, contrast and background.

Targets are not augmented. Hue is not changed, since colour distinguishes subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoders.features import GREY, MARGIN, square_crops
from .config import Data

MARGINS = (0.02, 0.3)  # around the subject's bounding box; at inference it is features.MARGIN
LIGHT = 0.2  # largest change of brightness and contrast
BACKGROUNDS = ("noise", "colour", "image")


@dataclass(frozen=True, eq=False)
class Augmentation:
    """Parameters of one augmentation. `whole`: not cropped to the subject. `backdrop` [S, S, 3]: the new background, None for grey."""

    whole: bool = False
    margin: float = MARGIN
    mirrored: bool = False
    brightness: float = 0.0
    contrast: float = 1.0
    backdrop: Tensor | None = None


def draw_augmentation(
    data: Data, generator: torch.Generator, side: int, others: Sequence[Callable[[], Tensor]], light: bool = True
) -> Augmentation:
    """Random augmentation parameters.

    Args:
        side: S of the backdrop. others: functions that load images [S', S', 3] to use as a backdrop; only the chosen one is called.
    """
    fractions = torch.tensor([1 - data.masked, data.augment, data.background])
    whole, augmented, replaced = (torch.rand(3, generator=generator) < fractions).tolist()
    chance = torch.rand(4, generator=generator).tolist()
    backdrop = _backdrop(generator, side, others) if replaced and not whole else None
    if not augmented:
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
    """The crop [size, size, 3] in 0..1 of an image [S, S, 3] with an optional mask [S, S]."""
    used_mask = None if mask is None or augmentation.whole else mask[None]
    crop = square_crops(image[None], used_mask, size, augmentation.margin)[0]
    if augmentation.contrast != 1 or augmentation.brightness:
        crop = ((crop - GREY) * augmentation.contrast + GREY + augmentation.brightness).clamp(0, 1)
    if used_mask is not None and (augmentation.backdrop is not None or augmentation.brightness):
        # The same crop of a white image is the subject's soft mask over grey.
        inside = (square_crops(torch.ones_like(image[None, ..., :1]), used_mask, size, augmentation.margin)[0] - GREY) / (1 - GREY)
        behind = torch.full_like(crop, GREY) if augmentation.backdrop is None else square_crops(augmentation.backdrop[None], None, size)[0]
        grey = GREY + augmentation.brightness  # the background after the change of brightness
        crop = (crop + (behind - grey) * (1 - inside)).clamp(0, 1)
    return crop.flip(1) if augmentation.mirrored else crop


def augmented_batch(images: Sequence[Tensor], masks: Sequence[Tensor | None], augmentations: Sequence[Augmentation], size: int) -> Tensor:
    """`augmented` for B images, [B, size, size, 3]."""
    return torch.stack([augmented(*row, size) for row in zip(images, masks, augmentations, strict=True)])
