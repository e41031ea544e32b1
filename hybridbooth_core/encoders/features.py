"""From reference pictures to what a probe reads: checks, the crop around the subject, and the features of both encoders.

Axes: B pictures, H W rows and columns, L tokens (the first one for the whole picture), C their width.
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
    """A frozen picture encoder. `size` is the side of the square pictures it reads, `width` the C of its tokens."""

    size: int
    width: int

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pictures [B, size, size, 3] in 0..1 to tokens [B, L, C]; does its own normalisation."""
        ...


class PictureCoder(Protocol):
    """The part of a `DiffusionModel` that turns pictures into latents; ComfyUI's VAE alone is one too."""

    @property
    def picture_size(self) -> int: ...

    def encode_image(self, pictures: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Reference:
    """B pictures [B, H, W, 3] in 0..1 of one subject, and its masks [B, H, W] in 0..1 or None. Make it with `reference`."""

    pictures: Tensor
    masks: Tensor | None


def reference(pictures: Tensor, masks: Tensor | None = None) -> Reference:
    """Check a person's pictures and masks and bring them into one form: detached float32 copies on the CPU.

    Grey pictures become RGB, transparent ones are laid over mid grey; both with a line in the log.

    Args:
        pictures: [B, H, W, 1, 3 or 4] in 0..1. masks: [B, H, W] or [H, W], 1 on the subject, or None.
    Raises:
        UserError: no picture, a picture under 16 pixels, values that are not finite; a mask of another size, or one that marks
            nothing or everything.
    """
    if pictures.ndim != 4 or len(pictures) == 0:
        raise UserError(f"expected at least one picture [B, H, W, 3], found {list(pictures.shape)}; connect a picture of the subject")
    height, width, channels = pictures.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise UserError(f"a reference picture needs at least {MIN_SIDE} pixels a side, found {width}x{height}; use a larger picture")
    if channels not in (1, 3, 4):
        raise UserError(f"expected pictures with 1, 3 or 4 channels, found {channels}; use a grey, RGB or RGBA picture")
    if not pictures.is_floating_point():
        raise UserError(f"expected pictures as fractions in 0..1, found {pictures.dtype}; divide 8-bit values by 255")
    pictures = pictures.detach().to("cpu", torch.float32, copy=True)
    if not bool(torch.isfinite(pictures).all()):
        raise UserError("the reference picture holds values that are not finite; load it again")
    if channels == 1:
        log.warning("the reference picture is grey; its colours will be guesses")
        pictures = pictures.expand(-1, -1, -1, 3).contiguous()
    elif channels == 4:
        log.warning("the reference picture is transparent; it is laid over mid grey (use its alpha as the mask if it is the subject)")
        alpha = pictures[..., 3:].clamp(0, 1)
        pictures = pictures[..., :3] * alpha + GREY * (1 - alpha)
    return Reference(pictures.clamp(0, 1), None if masks is None else _checked_masks(masks, pictures))


def _checked_masks(masks: Tensor, pictures: Tensor) -> Tensor:
    masks = masks.detach().to("cpu", torch.float32, copy=True)
    if masks.ndim == 2:
        masks = masks[None]
    if masks.numel() and not bool(masks.nan_to_num(0.0).any()):  # before its size: a host gives a small one where none was painted
        raise UserError(MARKS_NOTHING)
    if masks.shape != pictures.shape[:3]:
        raise UserError(
            f"the mask is {_size(masks)} but the picture is {_size(pictures[..., 0])}; expected one mask of the picture's size for each "
            "picture: paint it on this very picture, or leave it out"
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


def square_crops(pictures: Tensor, masks: Tensor | None, size: int, margin: float = MARGIN) -> Tensor:
    """Squares [B, size, size, 3] of the subject: around the mask with the background greyed out, or the centre where there is no mask.

    The square around a mask may reach beyond the picture; what lies there is grey too. `margin` is a share of the mask's longer side.
    """
    if masks is None:
        side = min(pictures.shape[1:3])
        top, left = (pictures.shape[1] - side) // 2, (pictures.shape[2] - side) // 2
        return _resized(pictures[:, top : top + side, left : left + side], size)
    return torch.cat([_subject_square(picture, mask, size, margin) for picture, mask in zip(pictures, masks, strict=True)])


def target_squares(ref: Reference, size: int) -> Reference:
    """What a refinement reconstructs: the largest square of each picture that is centred as nearly as possible on its subject.

    Pictures [B, size, size, 3] and masks [B, size, size]; nothing is greyed out, since the loss weighs the background down by itself.
    """
    side = min(ref.pictures.shape[1:3])
    pictures, masks = [], []
    for index, picture in enumerate(ref.pictures):
        mask = None if ref.masks is None else ref.masks[index]
        top, left = (_start(mask, axis, length, side) for axis, length in ((0, picture.shape[0]), (1, picture.shape[1])))
        pictures.append(_resized(picture[None, top : top + side, left : left + side], size))
        if mask is not None:
            masks.append(_resized(mask[None, top : top + side, left : left + side, None], size)[..., 0])
    return Reference(torch.cat(pictures), torch.cat(masks) if masks else None)


def _start(mask: Tensor | None, axis: int, length: int, side: int) -> int:
    """Where a square of `side` begins along an axis of `length`: centred on the mask, or on the picture."""
    centre = length / 2
    if mask is not None:
        weight = mask.sum(1 - axis)
        centre = float((weight * (torch.arange(length) + 0.5)).sum() / weight.sum())
    return min(max(round(centre - side / 2), 0), length - side)


def _subject_square(picture: Tensor, mask: Tensor, size: int, margin: float) -> Tensor:
    rows, columns = (mask > 0.5).any(1).nonzero()[:, 0], (mask > 0.5).any(0).nonzero()[:, 0]
    if len(rows) == 0:  # a mask so soft that it never passes one half: keep the whole picture
        rows, columns = torch.arange(len(mask)), torch.arange(mask.shape[1])
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    side = max(1, round(max(bottom - top, right - left) * (1 + 2 * margin)))
    y, x = (top + bottom - side) // 2, (left + right - side) // 2
    grey = picture * mask[..., None] + GREY * (1 - mask[..., None])
    pad = (0, 0, max(0, -x), max(0, x + side - picture.shape[1]), max(0, -y), max(0, y + side - picture.shape[0]))
    padded = F.pad(grey, pad, value=GREY)
    y, x = max(y, 0), max(x, 0)
    return _resized(padded[None, y : y + side, x : x + side], size)


def _resized(pictures: Tensor, size: int) -> Tensor:
    if pictures.shape[1:3] == (size, size):
        return pictures
    resized = F.interpolate(pictures.movedim(-1, 1), size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return resized.movedim(1, -1).clamp(0, 1)


@torch.no_grad()
def extract_features(model: PictureCoder, clip: FeatureEncoder, dino: FeatureEncoder, ref: Reference) -> Features:
    """What a probe sees of B reference pictures: tokens of both encoders, and the model's latents, of the crop around the subject."""
    crops = square_crops(ref.pictures, ref.masks, model.picture_size)
    return Features(
        clip=clip(square_crops(ref.pictures, ref.masks, clip.size)),
        dino=dino(square_crops(ref.pictures, ref.masks, dino.size)),
        latents=model.encode_image(crops),
    )
