"""Fixtures: a small dataset of photos, and the protocol's encoders with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

DATASET = Path(__file__).parents[1] / "data" / "dreambooth"


@pytest.fixture(scope="session")
def dataset() -> Path:
    """Two subjects with three photos each, and the full list of classes and prompts."""
    return DATASET


@pytest.fixture(scope="session")
def encoders():
    """DINO ViT-S/16, CLIP ViT-B/32 and LPIPS at full size with random weights; ViT-L/14 is too large for a test."""
    pytest.importorskip("timm")
    pytest.importorskip("lpips")
    from hybridbooth_core.evaluation.encoders import CLIP_B32
    from hybridbooth_core.evaluation.untrained import untrained_encoders

    return untrained_encoders((CLIP_B32,))
