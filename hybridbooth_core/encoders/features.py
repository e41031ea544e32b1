"""From reference images to what a probe reads: checks, the crop around the subject, and the features of both encoders.

Axes: B images, H W rows and columns, L tokens (the first one for the whole image), C their width.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from ..probe.probe import Features

log = logging.getLogger("hybridbooth")

MARGIN = 0.12  # of the subject's box, kept around it in the crop
GREY = 0.5  # what stands for the background
MIN_SIDE = 16
MARKS_NOTHING = "the mask marks nothing (it is all 0); paint the subject, so that it is 1 there, or leave the mask out"


class FeatureEncoder(Protocol):
    """A frozen image encoder. `size` is the side of the square images it reads, `width` the C of its tokens."""

    size: int
    width: int

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, size, size, 3] in 0..1 to tokens [B, L, C]; does its own normalisation."""
        ...


class LatentEncoder(Protocol):
    """The part of a `DiffusionModel` that turns images into latents; ComfyUI's VAE alone is one too."""

    @property
    def image_size(self) -> int: ...

    def encode_image(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Reference:
    """B images [B, H, W, 3] in 0..1 of one subject, and its masks [B, H, W] in 0..1 or None. Make it with `reference`."""

    images: Tensor
    masks: Tensor | None


def reference(images: Tensor, masks: Tensor | None = None) -> Reference:
    """Check a person's images and masks and bring them into one form: detached float32 copies on the CPU.

    Grey images become RGB, transparent ones are laid over mid grey; both with a line in the log.

    Args:
        images: [B, H, W, 1, 3 or 4] in 0..1. masks: [B, H, W] or [H, W], 1 on the subject, or None.
    Raises:
        UserError: no image, an image under 16 pixels, values that are not finite; a mask of another size, or one that marks
            nothing or everything.
    """
    if images.ndim != 4 or len(images) == 0:
        raise UserError(f"expected at least one image [B, H, W, 3], found {list(images.shape)}; connect an image of the subject")
    height, width, channels = images.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise UserError(f"a reference image needs at least {MIN_SIDE} pixels a side, found {width}x{height}; use a larger image")
    if channels not in (1, 3, 4):
        raise UserError(f"expected images with 1, 3 or 4 channels, found {channels}; use a grey, RGB or RGBA image")
    if not images.is_floating_point():
        raise UserError(f"expected images as fractions in 0..1, found {images.dtype}; divide 8-bit values by 255")
    images = images.detach().to("cpu", torch.float32, copy=True)
    if not bool(torch.isfinite(images).all()):
        raise UserError("the reference image holds values that are not finite; load it again")
    if channels == 1:
        log.warning("the reference image is grey; its colours will be guesses")
        images = images.expand(-1, -1, -1, 3).contiguous()
    elif channels == 4:
        log.warning("the reference image is transparent; it is laid over mid grey (use its alpha as the mask if it is the subject)")
        alpha = images[..., 3:].clamp(0, 1)
        images = images[..., :3] * alpha + GREY * (1 - alpha)
    return Reference(images.clamp(0, 1), None if masks is None else _checked_masks(masks, images))


def _checked_masks(masks: Tensor, images: Tensor) -> Tensor:
    masks = masks.detach().to("cpu", torch.float32, copy=True)
    if masks.ndim == 2:
        masks = masks[None]
    if masks.numel() and not bool(masks.nan_to_num(0.0).any()):  # before its size: a host gives a small one where none was painted
        raise UserError(MARKS_NOTHING)
    if masks.shape != images.shape[:3]:
        raise UserError(
            f"the mask is {_size(masks)} but the image is {_size(images[..., 0])}; expected one mask of the image's size for each "
            "image: paint it on this very image, or leave it out"
        )
    masks = masks.nan_to_num(0.0).clamp(0, 1)
    areas = masks.mean((1, 2))
    if float(areas.min()) < 0.001:
        raise UserError(MARKS_NOTHING)
    if float(areas.max()) > 0.999:
        raise UserError("the mask marks everything (it is all 1); mark only the subject, or leave the mask out")
    return masks


def _size(batch: Tensor) -> str:
    if batch.ndim != 3:
        return f"a tensor {list(batch.shape)}"
    return f"{len(batch)} of {batch.shape[2]}x{batch.shape[1]}"


def square_crops(images: Tensor, masks: Tensor | None, size: int, margin: float = MARGIN) -> Tensor:
    """Squares [B, size, size, 3] of the subject: around the mask with the background greyed out, or the centre where there is no mask.

    The square around a mask may reach beyond the image; what lies there is grey too. `margin` is a share of the mask's longer side.
    """
    if masks is None:
        side = min(images.shape[1:3])
        top, left = (images.shape[1] - side) // 2, (images.shape[2] - side) // 2
        return _resized(images[:, top : top + side, left : left + side], size)
    return torch.cat([_subject_square(image, mask, size, margin) for image, mask in zip(images, masks, strict=True)])


def target_squares(ref: Reference, size: int) -> Reference:
    """What a refinement reconstructs: the largest square of each image that is centred as nearly as possible on its subject.

    Images [B, size, size, 3] and masks [B, size, size]; nothing is greyed out, since the loss weighs the background down by itself.
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
    """Where a square of `side` begins along an axis of `length`: centred on the mask, or on the image."""
    centre = length / 2
    if mask is not None:
        weight = mask.sum(1 - axis)
        centre = float((weight * (torch.arange(length) + 0.5)).sum() / weight.sum())
    return min(max(round(centre - side / 2), 0), length - side)


def _subject_square(image: Tensor, mask: Tensor, size: int, margin: float) -> Tensor:
    rows, columns = (mask > 0.5).any(1).nonzero()[:, 0], (mask > 0.5).any(0).nonzero()[:, 0]
    if len(rows) == 0:  # a mask so soft that it never passes one half: keep the whole image
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
    """What a probe sees of B reference images: tokens of both encoders, and the model's latents, of the crop around the subject."""
    crops = square_crops(ref.images, ref.masks, model.image_size)
    return Features(
        clip=clip(square_crops(ref.images, ref.masks, clip.size)),
        dino=dino(square_crops(ref.images, ref.masks, dino.size)),
        latents=model.encode_image(crops),
    )
