"""Fixtures: folders of images to prepare, and what was stored of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from .helpers import PHOTOS, disc

NAMES = [f"{subject}/{number:02d}.jpg" for subject in ("cat", "duck_toy") for number in range(3)]


@pytest.fixture
def photo() -> Callable[[int], Image.Image]:
    """A function: a number from 0 to 5 to a real photo of 256x256."""
    return lambda number: Image.open(PHOTOS / NAMES[number]).convert("RGB")


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    return path


@pytest.fixture
def masked(folder, photo) -> Path:
    """Six photos as NN.jpg with discs of .2 of their area beside them; every other one a little to the right."""
    for number in range(6):
        photo(number).save(folder / f"{number:02d}.jpg", quality=95)
        disc((256, 256), (128 + 20 * (number % 2), 128), 64).save(folder / f"{number:02d}_mask.png")
    return folder
