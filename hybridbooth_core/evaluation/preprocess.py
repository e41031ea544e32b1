"""Each encoder's preprocessing, exactly as its authors do it (PIL's resize, torchvision's centre crop)."""

from __future__ import annotations

from collections.abc import Callable

from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from ..encoders.pixels import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD

Preprocess = Callable[[Image], Tensor]


def _square(resize: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
    return Compose([Resize(resize, InterpolationMode.BICUBIC), CenterCrop(224), ToTensor(), Normalize(mean, std)])


def for_clip() -> Preprocess:
    """An RGB image to [3, 224, 224]: shorter side to 224, bicubic, centre square, CLIP's mean and std (openai/CLIP)."""
    return _square(224, CLIP_MEAN, CLIP_STD)


def for_dino() -> Preprocess:
    """An RGB image to [3, 224, 224]: shorter side to 256, bicubic, centre 224, ImageNet's mean and std (facebookresearch/dino).

    timm's transform for these weights resizes to 248; the protocol uses 256.
    """
    return _square(256, IMAGENET_MEAN, IMAGENET_STD)


def for_lpips() -> Preprocess:
    """An RGB image to [3, H, W] in -1..1, not resized (Zhang et al. 2018)."""
    return Compose([ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)])
