"""Untrained hypernetworks and adapters for the miniature with random weights, moved off their start so that they do something."""

from __future__ import annotations

import torch

from hybridbooth_core.miniature.training.learners import new_learner
from hybridbooth_core.probe.hypernetwork import Hypernetwork
from hybridbooth_core.probe.instant import InstantBooth
from hybridbooth_core.probe.learner import Features


def hypernetwork_for(world, encoders, **changes) -> Hypernetwork:
    made = new_learner("hypernetwork", world, encoders.clip, encoders.dino, 0, **changes)
    assert isinstance(made, Hypernetwork)
    torch.nn.init.normal_(made.heads.weight, std=0.3)
    torch.nn.init.normal_(made.again.weight, std=0.3)
    return made.eval().requires_grad_(False)


def adapter_for(world, encoders, gate: float = 0.1, **changes) -> InstantBooth:
    made = new_learner("instantbooth", world, encoders.clip, encoders.dino, 0, **changes)
    assert isinstance(made, InstantBooth)
    for adapter in made.adapters:
        torch.nn.init.constant_(adapter.gate, gate)
    return made.eval().requires_grad_(False)


def random_features(encoders, count: int, seed: int = 0, tokens: int = 65) -> Features:
    generator = torch.Generator().manual_seed(seed)
    clip = torch.randn(count, tokens, encoders.clip.width, generator=generator)
    dino = torch.randn(count, tokens, encoders.dino.width, generator=generator)
    return Features(clip, dino, torch.zeros(count, 16, 8, 8))
