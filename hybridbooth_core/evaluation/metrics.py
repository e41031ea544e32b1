"""The protocol's metrics as pure functions, in float64.

Axes: G generated images, R real images, N image-prompt pairs, d feature width.
Source: Ruiz et al., "DreamBooth", CVPR 2023, section 4.1; LPIPS diversity (DIV): the supplement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from .statistics import interval

DIGITS = 5


def unit(features: Tensor) -> Tensor:
    """Normalises each row of [N, d] to unit norm, in float64. ValueError: a row is zero or not finite."""
    wide = features.detach().cpu().double()
    if wide.ndim != 2 or wide.shape[0] == 0:
        raise ValueError(f"expected features [N, d] of at least one image, found {list(wide.shape)}")
    norms = wide.norm(dim=1, keepdim=True)
    if not bool(torch.isfinite(norms).all()) or float(norms.min()) == 0:
        raise ValueError("expected features that are finite and not zero")
    return wide / norms


def mean_cosine(generated: Tensor, real: Tensor) -> float:
    """Mean cosine, -1..1, over all G x R pairs of features [G, d] and [R, d]: DINO and CLIP-I."""
    return (unit(generated) @ unit(real).T).mean().item()


def mean_cosine_among(real: Tensor) -> float | None:
    """Mean cosine over the R (R - 1) / 2 pairs of different images in [R, d], the score of the real photos; None for one image."""
    if len(real) < 2:
        return None
    rows, columns = torch.triu_indices(len(real), len(real), 1)
    return (unit(real) @ unit(real).T)[rows, columns].mean().item()


def mean_matching_cosine(images: Tensor, prompts: Tensor) -> float:
    """Mean cosine, -1..1, of row i of [N, d] with row i of [N, d]: CLIP-T."""
    if images.shape != prompts.shape:
        raise ValueError(f"expected a prompt for each image, found {list(images.shape)} and {list(prompts.shape)}")
    return (unit(images) * unit(prompts)).sum(1).mean().item()


def diversity(groups: Sequence[Sequence[Tensor]], distance: Callable[[Tensor, Tensor], float]) -> float | None:
    """Mean distance over all pairs of images of one prompt (DIV with LPIPS); None if no prompt has two images.

    Args:
        groups: for each prompt its generated images, each [3, H, W].
    """
    distances = [distance(a, b) for group in groups for a, b in combinations(group, 2)]
    return fmean(distances) if distances else None


def mean_with_interval(values: Sequence[float | None]) -> dict[str, Any]:
    """`mean` over the subjects that have a value, its bootstrap 95 % interval `ci95`, and the number of these `subjects`.

    `mean` is None without subjects, `ci95` with fewer than two.
    """
    present = torch.tensor([value for value in values if value is not None], dtype=torch.float64)
    mean = round(present.mean().item(), DIGITS) if len(present) else None
    return {"mean": mean, "ci95": interval(present, digits=DIGITS) if len(present) > 1 else None, "subjects": len(present)}
