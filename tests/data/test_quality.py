"""The blur measure, against its paper's formula written plainly, and on real photos."""

import numpy as np
import pytest
from PIL import ImageFilter

from hybridbooth_core.data.quality import blur_effect


def plain(grey: np.ndarray) -> float:
    """Crete et al. 2007, equations 1 to 6, in float64 loops over rows and columns."""
    results = []
    for image in (grey, grey.T):
        kept = total = 0.0
        for row in image.astype(np.float64):
            padded = np.concatenate([[row[0]] * 4, row, [row[-1]] * 4])
            blurred = np.convolve(padded, np.full(9, 1 / 9), mode="valid")
            here, after = np.abs(row[1:] - row[:-1]), np.abs(blurred[1:] - blurred[:-1])
            total += here.sum()
            kept += np.maximum(0, here - after).sum()
        results.append((total - kept) / total)
    return max(results)


def test_equals_the_papers_formula(photo):
    grey = np.asarray(photo(0).convert("L"))[:90, :120]
    assert blur_effect(grey) == pytest.approx(plain(grey), abs=1e-6)


@pytest.mark.parametrize("number", range(6))
def test_sharp_photos_are_below_and_blurred_ones_above_the_default(number, photo):
    large = photo(number).resize((512, 512))  # blurred by its enlargement already
    values = [blur_effect(np.asarray(image.convert("L"))) for image in (photo(number), large.filter(ImageFilter.GaussianBlur(3)))]
    assert values[0] < 0.5 and values[1] > 0.6


def test_only_what_the_weight_marks_counts(photo):
    sharp = np.asarray(photo(0).convert("L"))
    blurred = np.asarray(photo(0).convert("L").filter(ImageFilter.GaussianBlur(4)))
    half = np.zeros((256, 256))
    half[:, :128] = 1
    both = np.where(half > 0, sharp, blurred)
    assert blur_effect(both, half) == pytest.approx(blur_effect(sharp[:, :124]), abs=0.02)
    assert blur_effect(both, 1 - half) > blur_effect(both, half) + 0.2


def test_an_even_area_and_no_weight_are_wholly_blurred(photo):
    assert blur_effect(np.full((20, 20), 7)) == 1
    assert blur_effect(np.asarray(photo(0).convert("L")), np.zeros((256, 256))) == 1
