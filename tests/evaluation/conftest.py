"""Fixtures: the dataset's few photos, and the encoders of the metrics with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

DATASET = Path(__file__).parents[1] / "data" / "dreambooth"


@pytest.fixture(scope="session")
def dataset() -> Path:
    """Two subjects with three photos each, and the whole list of classes and prompts."""
    return DATASET


@pytest.fixture(scope="session")
def encoders():
    """The real layouts of DINO ViT-S/16, CLIP ViT-B/32 and LPIPS with random weights; ViT-L/14 is too heavy for a test."""
    pytest.importorskip("timm")
    pytest.importorskip("lpips")
    from hybridbooth_core.evaluation.encoders import CLIP_B32
    from hybridbooth_core.evaluation.untrained import untrained_encoders

    return untrained_encoders((CLIP_B32,))
