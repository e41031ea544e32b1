"""Training images, rendered for every step and never stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...encoders.features import square_crops
from ..render import SIZE, render
from ..world import SPLITS, Creatures, Scenes, creatures, random_scenes, repeat

MASKED = 0.8  # fraction of references with a mask


@dataclass(frozen=True)
class Batch:
    creatures: Creatures
    scenes: Scenes
    images: Tensor  # [B, H, W, 3] in 0..1
    masks: Tensor  # [B, H, W] in 0..1


def choose(generator: torch.Generator, identities: int, views: int = 1) -> tuple[Creatures, Scenes]:
    """Random train creatures, each in `views` random scenes; rows of one creature are adjacent."""
    numbers = torch.randint(len(SPLITS["train"]), (identities,), generator=generator) + SPLITS["train"].start
    who = repeat(creatures(numbers), views)
    return who, random_scenes(len(who), generator)


def draw_batch(generator: torch.Generator, identities: int, views: int = 1) -> Batch:
    """The images of `choose`."""
    who, where = choose(generator, identities, views)
    return Batch(who, where, *render(who, where))


def references(images: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
    """Encoder inputs [B, 64, 64, 3]: most are cropped around their mask, the others are whole images."""
    masked = torch.rand(len(images), generator=generator) < MASKED
    crops = square_crops(images, None, SIZE).clone()
    crops[masked] = square_crops(images[masked], masks[masked], SIZE) if bool(masked.any()) else crops[masked]
    return crops


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blurs the images, half of them fully, and adds a little noise, so that encoders rely on shapes and colours rather than pixels."""
    small = F.interpolate(images.movedim(-1, 1), scale_factor=0.5, mode="bilinear", antialias=True)
    blurred = F.interpolate(small, size=images.shape[1:3], mode="bilinear").movedim(1, -1)
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator)
    strength = 0.08 * torch.rand(len(images), 1, 1, 1, generator=generator)
    mixed = images + (blurred - images) * (chosen * 2).clamp_max(1.0)
    return (mixed + strength * torch.randn(images.shape, generator=generator)).clamp(0, 1)
