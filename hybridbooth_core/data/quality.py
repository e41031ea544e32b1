"""What is measured of an image: how blurred it is, and how much of it the subject takes."""

from __future__ import annotations

import numpy as np

TAPS = 9


def blur_effect(grey: np.ndarray, weight: np.ndarray | None = None) -> float:
    """How blurred an image looks, 0 (sharp) to 1, whatever it shows: Crete et al. 2007, "The Blur Effect".

    A sharp image changes much when it is blurred once more, a blurred one hardly. Along each axis: the share of the differences between
    neighbours that survives another blur (a mean of 9 neighbours); the more blurred axis counts. An even area is 1.

    Args:
        grey: [H, W] of any scale, at least 10 a side. weight: [H, W] from 0 on, how much each pixel counts; None counts all alike.
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
