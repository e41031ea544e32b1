"""Masks as people have them: empty, full, of another size, one for many images, or marking the background.

Axes: M masks, B images, H W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError

BLANK = 0.001  # a mask that marks less than this share of the image, or all but this, says nothing
SAME_SHAPE = 0.05  # aspect ratios that differ by less are taken for the same
ROUND = 0.9
"""A mask that covers this share of the image's border touches it all round. True masks of 32 creatures: none; inverted ones: all."""

NO_MASK = (
    "the mask marks nothing or everything (Load Image gives such a mask for an image without transparency), so no mask is used and the "
    "background is learned as well; to leave it out, paint over the subject in the mask editor"
)
ROUND_MASK = (
    "the mask covers the image's border all round; if it marks the background, as the mask of a cut-out does, turn on 'invert mask'"
)


def fit_masks(masks: Tensor, count: int, height: int, width: int, invert: bool = False) -> tuple[Tensor | None, tuple[str, ...]]:
    """Masks [count, height, width] in 0..1, 1 on the subject, or None if they say nothing; and what the user should know.

    Args:
        masks: [M, H, W], [M, H, W, 1], [M, 1, H, W] or [H, W] of any size; M is 1 or `count`. Values are clamped to 0..1, NaN is 0.
        invert: the masks mark the background.
    Raises:
        UserError: another number of masks, or a tensor of another shape.
    """
    found = _batched(masks.detach().to("cpu", torch.float32, copy=True)).nan_to_num(0.0).clamp(0, 1)
    if found.numel() == 0 or bool(_blank(found).all()):
        return None, (NO_MASK,)
    if len(found) not in (1, count):
        raise UserError(
            f"expected one mask, or one for each image ({count}), found {len(found)}; connect masks and images in the same order"
        )
    notices = []
    if tuple(found.shape[1:]) != (height, width):
        ratio = (found.shape[2] / found.shape[1]) / (width / height)
        if abs(ratio - 1) > SAME_SHAPE:
            notices.append(
                f"the mask of {found.shape[2]}x{found.shape[1]} pixels was stretched to the image's {width}x{height}, another shape; check "
                "in the report that it fits the subject"
            )
        found = F.interpolate(found[:, None], size=(height, width), mode="bilinear", antialias=True, align_corners=False)[:, 0].clamp(0, 1)
    found = found.expand(count, -1, -1).clone()
    if invert:
        found = 1 - found
    blank = _blank(found)
    if bool(blank.all()):
        return None, (NO_MASK,)
    if bool(blank.any()):
        which = ", ".join(str(index + 1) for index in blank.nonzero()[:, 0].tolist())
        notices.append(f"the mask of image {which} marks nothing or everything, so the whole of that image is learned")
        found[blank] = 1.0
    if bool(touches_all_round(found[~blank]).any()):
        notices.append(ROUND_MASK)
    return found, tuple(notices)


def touches_all_round(masks: Tensor) -> Tensor:
    """Whether each mask [M, H, W] covers the image's border nearly everywhere: bool [M]."""
    ring = torch.cat([masks[:, 0], masks[:, -1], masks[:, 1:-1, 0], masks[:, 1:-1, -1]], dim=1)
    return (ring > 0.5).float().mean(1) >= ROUND


def _blank(masks: Tensor) -> Tensor:
    areas = masks.mean((1, 2))
    return (areas < BLANK) | (areas > 1 - BLANK)


def _batched(masks: Tensor) -> Tensor:
    """[M, H, W]."""
    if masks.ndim == 2:
        return masks[None]
    if masks.ndim == 4 and masks.shape[3] == 1:
        return masks[..., 0]
    if masks.ndim == 4 and masks.shape[1] == 1:
        return masks[:, 0]
    if masks.ndim != 3:
        raise UserError(f"expected masks [M, H, W], 1 on the subject, found a tensor {list(masks.shape)}; connect a mask of the image")
    return masks
