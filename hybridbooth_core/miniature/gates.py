"""Quality gates of the miniature's base model, measured on the test split."""

from __future__ import annotations

import torch

from .bundle import Miniature
from .captions import describe
from .evaluate import EVALUATION_SCENES, evaluate, join, score
from .render import render
from .world import creatures, repeat, split_numbers

LIMITS = {"class_accuracy": 0.85, "prompt_accuracy": 0.95, "autoencoder_identity": 0.97}


@torch.no_grad()
def measure_gates(world: Miniature, identities: int = 64, seed: int = 0) -> dict[str, float]:
    """Class and prompt accuracy of the base model (guidance 3, 15 steps, full descriptions), and the autoencoder's identity score.

    `truth_*` are the accuracies on true renders, an upper bound set by the judge.
    """
    who = creatures(split_numbers("test", identities))
    base = evaluate(world.model, world.judge, who, [describe(who, row) for row in range(len(who))], seed=seed)
    where = join(EVALUATION_SCENES)
    everyone, everywhere = repeat(who, len(where)), where[torch.arange(len(where)).repeat(len(who))]
    images, _ = render(everyone, everywhere)
    shape = (len(who), len(where))
    truth = score(world.judge, images, everyone, everywhere, shape)
    coder = world.model.coder
    coded = score(world.judge, coder.decode(coder.encode(images)), everyone, everywhere, shape)
    return {
        "identities": identities,
        "class_accuracy": round(base.kind.mean().item(), 4),
        "prompt_accuracy": round(base.prompt.mean().item(), 4),
        "described_identity": round(base.identity.mean().item(), 4),
        "autoencoder_identity": round(coded.identity.mean().item(), 4),
        "truth_class_accuracy": round(truth.kind.mean().item(), 4),
        "truth_prompt_accuracy": round(truth.prompt.mean().item(), 4),
    }


def passes(gates: dict[str, float]) -> bool:
    """Whether all gates reach their limits."""
    return all(gates[name] >= limit for name, limit in LIMITS.items())
