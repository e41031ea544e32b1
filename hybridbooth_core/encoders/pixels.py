"""Preprocessing of an image encoder's inputs: normalisation, batches, device and dtype."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 8

Numbers = tuple[float, float, float]


def normalise(images: Tensor, mean: Numbers, std: Numbers) -> Tensor:
    """(images - mean) / std per channel, from [B, H, W, 3] in 0..1 to [B, 3, H, W]."""
    return ((images - images.new_tensor(mean)) / images.new_tensor(std)).movedim(-1, 1).contiguous()


@torch.no_grad()
def encode_in_batches(encode: Callable[[Tensor], Tensor], pixels: Tensor, like: Tensor, size: int) -> Tensor:
    """Applies `encode` to pixels [B, 3, size, size] in batches on the device and in the dtype of `like`.

    Returns:
        float32 on the device of `pixels`.
    Raises:
        ValueError: the pixels have another shape, or the batch is empty.
    """
    if pixels.shape[1:] != (3, size, size) or len(pixels) == 0:
        raise ValueError(f"expected images of {size}x{size} pixels with 3 channels, found {list(pixels.shape)} (channels first)")
    parts = pixels.split(BATCH)
    return torch.cat([encode(part.to(like.device, like.dtype)).to(pixels.device, torch.float32) for part in parts])
