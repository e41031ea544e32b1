"""The members of a stored sample as tensors. What is stored may have come from strangers, so nothing is taken on trust."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MAX_SIDE = 4096


def image_tensor(content: bytes) -> Tensor:
    """A stored image as [S, S, 3] in 0..1; ValueError if it is no square JPEG."""
    return torch.from_numpy(_values(content, "JPEG", "RGB"))


def mask_tensor(content: bytes) -> Tensor:
    """A stored mask as [S, S] in 0..1, 1 on the subject; ValueError if it is no square PNG."""
    return torch.from_numpy(_values(content, "PNG", "L"))


def _values(content: bytes, kind: str, mode: str) -> np.ndarray:
    try:
        with Image.open(BytesIO(content), formats=(kind,)) as file:
            if file.width != file.height or file.width > MAX_SIDE:
                raise ValueError(f"{file.width}x{file.height} pixels")
            return np.asarray(file.convert(mode), dtype=np.float32) / 255
    except Exception as error:  # each decoder has errors of its own
        raise ValueError(f"no {kind} that can be read ({type(error).__name__})") from error
