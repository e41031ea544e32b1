"""How unlike the subjects of a probe's training a subject is, and what a refinement does about it.

The norm of the loss's gradient at the prediction says how wrong the prediction is: of many signals it is the one that predicts whether
steps help. A probe's file holds its deciles over held-out subjects of the training data, and says whether the probe is weak: whether
even those gain by many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import FAR_STEPS, NEAR_STEPS, RefineConfig

FAR = 2.0
"""A subject is unlike the others if its gradient is so many times their median. Chosen on tune creatures (docs/findings.md)."""
ANCHOR = 1.0


@dataclass(frozen=True)
class Decision:
    """Steps and anchor of a refinement.

    Attributes:
        unlikeness: the gradient's norm at the prediction, as a multiple of the median over subjects like those of the training; None if
            there is no such median.
        weak: the probe is weak.
    """

    steps: int
    anchor: float
    unlikeness: float | None = None
    weak: bool = False


def gradient_norm(gradient: Tensor, embedding_norm: float) -> float:
    """The dimensionless norm of a gradient [n, d]: for steps as long as an embedding."""
    return gradient.norm().item() * embedding_norm


def deciles(norms: Sequence[float]) -> tuple[float, ...]:
    """The deciles 0, 10 ... 100 % of gradient norms, for a probe's file."""
    values = torch.tensor(norms, dtype=torch.float64)
    return tuple(round(value, 6) for value in values.quantile(torch.linspace(0, 1, 11, dtype=torch.float64)).tolist())


def likeness(unlikeness: float) -> str:
    """ "like those", "somewhat unlike those" or "unlike those", for users."""
    return "unlike those" if unlikeness > FAR else "somewhat unlike those" if unlikeness > 1 + (FAR - 1) / 2 else "like those"


def decide(config: RefineConfig, norm: float, deciles: Sequence[float], weak: bool = False) -> Decision:
    """Steps and anchor, unless `config` gives them, for the gradient norm at a probe's prediction.

    Args:
        deciles, weak: from the probe's file. Without deciles the subject counts as like those of the training.
    """
    unlikeness = norm / deciles[5] if deciles and deciles[5] > 0 else None
    far = weak or (unlikeness is not None and unlikeness > FAR)
    steps = config.steps if config.steps is not None else FAR_STEPS if far else NEAR_STEPS
    anchor = config.anchor if config.anchor is not None else 0.0 if far else ANCHOR
    return Decision(steps, anchor, unlikeness, weak)
