"""Decodes images and masks of stored samples. Shards may come from untrusted sources, so everything is checked."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MAX_SIDE = 4096


def image_tensor(content: bytes) -> Tensor:
    """A stored image as [S, S, 3] in 0..1; ValueError unless it is a square JPEG."""
    return torch.from_numpy(_values(content, "JPEG", "RGB"))


def mask_tensor(content: bytes) -> Tensor:
    """A stored mask as [S, S] in 0..1, 1 on the subject; ValueError unless it is a square PNG."""
    return torch.from_numpy(_values(content, "PNG", "L"))


def _values(content: bytes, kind: str, mode: str) -> np.ndarray:
    try:
        with Image.open(BytesIO(content), formats=(kind,)) as file:
            if file.width != file.height or file.width > MAX_SIDE:
                raise ValueError(f"{file.width}x{file.height} pixels")
            return np.asarray(file.convert(mode), dtype=np.float32) / 255
    except Exception as error:  # Pillow's decoders raise many types
        raise ValueError(f"not a readable {kind} ({type(error).__name__})") from error
