"""What is shown of a run while it goes on: the loss curve beside a preview of the subject, and the time left in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from PIL import Image
from torch import Tensor

from .drawing import Page

SIDE, EDGE = 256, 12
FEW = 40  # losses that are drawn as they are; of more, means of neighbours


def progress_image(losses: Sequence[float], steps: int, preview: Tensor | None = None) -> Image.Image:
    """The loss of the steps done, as a share of the first step's, and on its left the latest preview [H, W, 3] if there is one."""
    left = 0 if preview is None else SIDE
    page = Page(left + SIDE, SIDE)
    if preview is not None:
        page.show(preview, 0, 0, SIDE, SIDE)
    means = smoothed(losses)
    start = next((loss for loss in means if math.isfinite(loss) and loss), None)
    if start is not None:
        page.text(left + SIDE / 2, 24, f"loss {100 * means[-1] / start:.0f} % of the first step's", 15, "mm", width=SIDE - 2 * EDGE)
        stride = len(losses) / len(means)
        page.curve(means, left + EDGE, 44, SIDE - 2 * EDGE, SIDE - 84, size=15, first=1, stride=stride)
    page.text(left + SIDE / 2, SIDE - 22, f"step {len(losses)} of {steps}", 15, "mm", width=SIDE - 2 * EDGE)
    return page.image


def smoothed(losses: Sequence[float]) -> list[float]:
    """The losses, or of more than `FEW` the means of as many groups of neighbours: single steps of a training are noise."""
    if len(losses) <= FEW:
        return list(losses)
    edges = [len(losses) * index // FEW for index in range(FEW + 1)]
    return [sum(losses[a:b]) / (b - a) for a, b in pairwise(edges)]


def time_left(elapsed: float, done: int, steps: int) -> str:
    """ ", about 1 min 20 s left" after some seconds, or "" while it cannot be known or nothing is left."""
    if done < 2 or done >= steps:
        return ""
    seconds = elapsed / done * (steps - done)
    if seconds >= 3600:
        return f", about {seconds / 3600:.1f} h left"
    if seconds >= 60:
        return f", about {int(seconds // 60)} min {int(seconds % 60)} s left"
    return f", about {max(1, round(seconds))} s left"
