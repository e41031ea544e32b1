"""Measures the blur of an image."""

from __future__ import annotations

import numpy as np

TAPS = 9


def blur_effect(grey: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Perceived blur from 0 (sharp) to 1: Crete et al. 2007, "The Blur Effect".

    A sharp image changes more than a blurred one when it is blurred again. Per axis, this is the fraction of the differences between
    neighbours that remains after another blur (a mean of 9 neighbours); the larger of the two axes counts. A uniform image gives 1.

    Args:
        grey: [H, W] in any scale, at least 10 pixels a side. weight: [H, W], non-negative weights of the pixels; None for equal weights.
    """
    grey = grey.astype(np.float32)
    weight = np.ones_like(grey) if weight is None else weight.astype(np.float32)
    return max(_along(grey, weight), _along(grey.T, weight.T))


def _along(grey: np.ndarray, weight: np.ndarray) -> float:
    side = TAPS // 2
    padded = np.pad(grey, ((0, 0), (side, side)), mode="edge").astype(np.float64)
    sums = np.cumsum(np.pad(padded, ((0, 0), (1, 0))), axis=1)
    blurred = (sums[:, TAPS:] - sums[:, :-TAPS]) / TAPS
    here, after = np.abs(np.diff(grey, axis=1)), np.abs(np.diff(blurred, axis=1))
    counted = weight[:, 1:] * weight[:, :-1]
    total = float((here * counted).sum(dtype=np.float64))
    lost = float((np.maximum(here - after, 0) * counted).sum(dtype=np.float64))
    return 1.0 if total <= 0 else 1 - lost / total
