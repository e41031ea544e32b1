"""Means and bootstrap intervals over identities, and of paired differences."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.seeds import new_generator

SAMPLES = 10_000


def interval(values: Tensor, samples: int = SAMPLES, digits: int = 4) -> list[float]:
    """The 95 % percentile bootstrap interval [low, high] of the mean of values [N], one per identity."""
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"expected values [N] of at least one identity, found {list(values.shape)}")
    rows = torch.randint(len(values), (samples, len(values)), generator=new_generator(0))
    means = values[rows].mean(1)
    return [round(means.quantile(q).item(), digits) for q in (0.025, 0.975)]


def mean_of(values: Tensor, digits: int = 4) -> float:
    return round(values.mean().item(), digits)


def paired(values: Tensor, baseline: Tensor) -> dict[str, float | list[float]]:
    """`mean` and `ci95` of values - baseline, both [N] in the same order of identities."""
    if values.shape != baseline.shape:
        raise ValueError(f"expected values of the same identities, found {list(values.shape)} and {list(baseline.shape)}")
    difference = values - baseline
    return {"mean": mean_of(difference), "ci95": interval(difference)}
