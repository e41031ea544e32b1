"""What is shown of a run while it goes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hybridbooth_core.report.progress_image import FEW, progress_image, smoothed, time_left


@pytest.mark.parametrize("losses", [[0.3], [0.3, float("nan")], [float("nan")], [0.3 - 0.0001 * i for i in range(500)], [0.0, 0.0]])
@pytest.mark.parametrize("preview", [None, torch.full((64, 64, 3), 0.5)])
def test_any_run_can_be_shown(losses: list[float], preview: torch.Tensor | None):
    image = progress_image(losses, 600, preview)
    assert image.size == ((256, 256) if preview is None else (512, 256))
    if preview is not None:
        assert np.asarray(image)[128, 128].tolist() == [128, 128, 128], "the preview is on the left"


def test_a_training_is_shown_by_the_means_of_neighbours():
    assert smoothed([1.0, 2.0]) == [1.0, 2.0]
    found = smoothed([float(i) for i in range(10 * FEW)])
    assert len(found) == FEW and found[0] == 4.5 and found[-1] == 10 * FEW - 5.5


@pytest.mark.parametrize(
    ("elapsed", "done", "steps", "says"),
    [
        (5, 1, 30, ""),
        (10, 10, 10, ""),
        (10, 10, 30, ", about 20 s left"),
        (60, 3, 10, ", about 2 min 20 s left"),
        (3600, 2, 10, ", about 4.0 h left"),
    ],
)
def test_the_time_left(elapsed: float, done: int, steps: int, says: str):
    assert time_left(elapsed, done, steps) == says
