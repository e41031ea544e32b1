"""Fixtures: the shipped miniature with test creatures, and a random CLIP space."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hybridbooth_core.encoders.clip_space import ClipSpace


@pytest.fixture(scope="package")
def shipped() -> SimpleNamespace:
    """`model`, `space`, and eight creatures of the test split: `refs`, `nouns`."""
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from hybridbooth_core.miniature.bundle import load_clip_space, load_model
    from hybridbooth_core.miniature.evaluate import class_nouns, reference_of
    from hybridbooth_core.miniature.world import creatures, split_numbers

    who = creatures(split_numbers("test", 8))
    return SimpleNamespace(
        model=load_model(), space=load_clip_space(), refs=[reference_of(who, row) for row in range(len(who))], nouns=class_nouns(who)
    )


@pytest.fixture(scope="package")
def space() -> ClipSpace:
    """A random CLIP space of width 12 for the random-weight `world`."""
    torch.manual_seed(21)
    text, image = nn.Linear(96, 12, bias=False), nn.Linear(3, 12, bias=False)
    return ClipSpace(lambda crops: image(crops.mean((1, 2))).detach(), 64, text.requires_grad_(False))
