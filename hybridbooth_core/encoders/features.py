"""Reference images: validation, crops around the subject, and the features that a probe reads.

Axes: B images, H W height and width, L tokens (the first is the class token), C token width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from ..probe.probe import Features
from .masks import fit_masks

MARGIN = 0.12  # around the subject's bounding box, as a fraction of its longer side
GREY = 0.5  # replaces the background
MIN_SIDE = 16


class FeatureEncoder(Protocol):
    """A frozen image encoder. `size` is the side of its square input images, `width` the C of its tokens."""

    size: int
    width: int

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, size, size, 3] in 0..1 to tokens [B, L, C]; normalises the images itself."""
        ...


class LatentEncoder(Protocol):
    """The part of a `DiffusionModel` that encodes images to latents. ComfyUI's VAE implements it too."""

    @property
    def image_size(self) -> int: ...

    def encode_image(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Reference:
    """B images [B, H, W, 3] in 0..1 of one subject, and its masks [B, H, W] in 0..1 or None. Create it with `reference`.

    `notices` are sentences for the user: what was ignored or changed.
    """

    images: Tensor
    masks: Tensor | None
    notices: tuple[str, ...] = ()


def reference(images: Tensor, masks: Tensor | None = None, invert: bool = False) -> Reference:
    """Validates a user's images and masks, and returns float32 copies on the CPU.

    Grey images become RGB and transparent images are composited over mid grey. Masks become as `fit_masks` says. `notices` says so.

    Args:
        images: [B, H, W, 1, 3 or 4] in 0..1. masks: see `fit_masks`.
        invert: the masks mark the background.
    Raises:
        UserError: no image, an image smaller than 16 pixels, or values that are not finite; masks that are neither one nor as many as
            the images.
    """
    if images.ndim != 4 or len(images) == 0:
        raise UserError(f"expected at least one image [B, H, W, 3], found {list(images.shape)}; connect an image of the subject")
    height, width, channels = images.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise UserError(f"expected reference images of at least {MIN_SIDE} pixels a side, found {width}x{height}; use a larger image")
    if channels not in (1, 3, 4):
        raise UserError(f"expected images with 1, 3 or 4 channels, found {channels}; use a grey, RGB or RGBA image")
    if not images.is_floating_point():
        raise UserError(f"expected floating-point images in 0..1, found {images.dtype}; divide 8-bit values by 255")
    images = images.detach().to("cpu", torch.float32, copy=True)
    if not bool(torch.isfinite(images).all()):
        raise UserError("the reference image contains values that are not finite; load it again")
    notices = []
    if channels == 1:
        notices.append("the reference image is greyscale; the subject's colours will be arbitrary")
        images = images.expand(-1, -1, -1, 3).contiguous()
    elif channels == 4:
        notices.append("the reference image is transparent; it is placed on mid grey (use its alpha as the mask if it shows the subject)")
        alpha = images[..., 3:].clamp(0, 1)
        images = images[..., :3] * alpha + GREY * (1 - alpha)
    fitted, said = (None, ()) if masks is None else fit_masks(masks, len(images), height, width, invert)
    return Reference(images.clamp(0, 1), fitted, (*notices, *said))


def square_crops(images: Tensor, masks: Tensor | None, size: int, margin: float = MARGIN) -> Tensor:
    """Square crops [B, size, size, 3]: around the mask, with the background grey, or without masks the centre of the image.

    A crop around a mask is padded with grey where it leaves the image. `margin` is a fraction of the mask's longer side.
    """
    if masks is None:
        side = min(images.shape[1:3])
        top, left = (images.shape[1] - side) // 2, (images.shape[2] - side) // 2
        return _resized(images[:, top : top + side, left : left + side], size)
    return torch.cat([_subject_square(image, mask, size, margin) for image, mask in zip(images, masks, strict=True)])


def target_squares(ref: Reference, size: int) -> Reference:
    """The targets of a refinement: the largest square of each image, as close to centred on the subject as possible.

    Images [B, size, size, 3] and masks [B, size, size]. The background stays, since the loss gives it a lower weight.
    """
    side = min(ref.images.shape[1:3])
    images, masks = [], []
    for index, image in enumerate(ref.images):
        mask = None if ref.masks is None else ref.masks[index]
        top, left = (_start(mask, axis, length, side) for axis, length in ((0, image.shape[0]), (1, image.shape[1])))
        images.append(_resized(image[None, top : top + side, left : left + side], size))
        if mask is not None:
            masks.append(_resized(mask[None, top : top + side, left : left + side, None], size)[..., 0])
    return Reference(torch.cat(images), torch.cat(masks) if masks else None)


def _start(mask: Tensor | None, axis: int, length: int, side: int) -> int:
    """The first pixel of a square of `side` along an axis of `length`, centred on the mask or on the image."""
    centre = length / 2
    if mask is not None:
        weight = mask.sum(1 - axis)
        centre = float((weight * (torch.arange(length) + 0.5)).sum() / weight.sum())
    return min(max(round(centre - side / 2), 0), length - side)


def _subject_square(image: Tensor, mask: Tensor, size: int, margin: float) -> Tensor:
    rows, columns = (mask > 0.5).any(1).nonzero()[:, 0], (mask > 0.5).any(0).nonzero()[:, 0]
    if len(rows) == 0:  # a soft mask, below 0.5 everywhere: keep the whole image
        rows, columns = torch.arange(len(mask)), torch.arange(mask.shape[1])
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    side = max(1, round(max(bottom - top, right - left) * (1 + 2 * margin)))
    y, x = (top + bottom - side) // 2, (left + right - side) // 2
    grey = image * mask[..., None] + GREY * (1 - mask[..., None])
    pad = (0, 0, max(0, -x), max(0, x + side - image.shape[1]), max(0, -y), max(0, y + side - image.shape[0]))
    padded = F.pad(grey, pad, value=GREY)
    y, x = max(y, 0), max(x, 0)
    return _resized(padded[None, y : y + side, x : x + side], size)


def _resized(images: Tensor, size: int) -> Tensor:
    if images.shape[1:3] == (size, size):
        return images
    resized = F.interpolate(images.movedim(-1, 1), size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return resized.movedim(1, -1).clamp(0, 1)


@torch.no_grad()
def extract_features(model: LatentEncoder, clip: FeatureEncoder, dino: FeatureEncoder, ref: Reference) -> Features:
    """A probe's inputs for B reference images: both encoders' tokens and the model's latents of the crops around the subject."""
    crops = square_crops(ref.images, ref.masks, model.image_size)
    return Features(
        clip=clip(square_crops(ref.images, ref.masks, clip.size)),
        dino=dino(square_crops(ref.images, ref.masks, dino.size)),
        latents=model.encode_image(crops),
    )
