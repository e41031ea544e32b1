"""Fixtures: true-size encoders with random weights as files, and crops of real photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

PHOTOS = Path(__file__).parents[1] / "data" / "dreambooth"


def as_tensor(image: Image.Image) -> Tensor:
    """An image [H, W, 3] in 0..1."""
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    """Square photos of 256 pixels."""
    return [Image.open(PHOTOS / name).convert("RGB") for name in ("cat/00.jpg", "duck_toy/01.jpg")]


@pytest.fixture(scope="session")
def crops(photos) -> Tensor:
    """What the encoders are given of them [2, 224, 224, 3]."""
    from hybridbooth_core.encoders.features import square_crops

    return square_crops(torch.stack([as_tensor(photo) for photo in photos]), None, 224)


def randomised(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights of a size at which all 24 layers matter: what the libraries start from is nearly the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            middle, spread = (0.0 if name.endswith("bias") else 1.0), 0.2
            if parameter.ndim > 1:
                middle, spread = 0.0, (1.0 if parameter.ndim == 3 or "embedding" in name else 2 * parameter[0].numel() ** -0.5)
            parameter.uniform_(middle - spread, middle + spread, generator=generator)
    return network.eval().requires_grad_(False)


def relative(a: Tensor, b: Tensor) -> float:
    """The largest difference in units of a's spread."""
    assert a.shape == b.shape
    return float((a - b).abs().max() / a.std())
