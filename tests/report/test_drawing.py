"""Drawings, checked in their pixels."""

import pytest
import torch

from hybridbooth_core.report.drawing import ACCENT, LINE, Page, fitted, mosaic, outlined, with_heatmap, wrapped

WHITE = torch.ones(3)


def colour(name: str) -> torch.Tensor:
    return torch.tensor([int(name[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def where(image: torch.Tensor, wanted: torch.Tensor, near: float = 0.12) -> torch.Tensor:
    """Rows and columns [k, 2] of the pixels of a colour."""
    return ((image - wanted).abs().amax(-1) < near).nonzero().float()


def test_an_image_fits_its_box_and_is_centred():
    page = Page(200, 100)
    page.show(torch.zeros(10, 40, 3), 20, 10, 160, 80)
    dark = where(page.pixels(), torch.zeros(3))
    assert dark.amin(0).tolist() == [30, 20] and dark.amax(0).tolist() == [69, 179]
    assert fitted(torch.rand(512, 384, 3), 100, 100).shape == (100, 75, 3)


@pytest.mark.parametrize("count", [1, 2, 3, 9, 12])
def test_a_mosaic_shows_up_to_nine(count):
    images = [torch.full((8, 8, 3), 0.5) for _ in range(count)]
    grey = where(mosaic(images, 120, 120), torch.full((3,), 0.5))
    cell = {1: 120, 2: 57, 3: 57, 9: 36, 12: 36}[count]
    assert len(grey) == min(count, 9) * cell**2


def test_wide_text_is_truncated():
    page = Page(300, 60)
    page.text(10, 10, "a very long sentence that goes on and on and on and on and on", 14, width=120)
    ink = (page.pixels() < 0.5).any(-1).nonzero()[:, 1]
    assert ink.min() >= 10 and 90 < ink.max() <= 130


def test_a_heatmap_is_bright_at_its_maximum_and_dark_at_its_minimum():
    heat = torch.full((4, 4), 3.0)
    heat[0, 3] = 5.0
    image = with_heatmap(torch.full((64, 64, 3), 0.5), heat)
    brightness = image.sum(-1)
    assert brightness[4:12, 52:60].mean() > brightness[40:, :20].mean() + 0.5
    red, _, blue = image[8, 56]
    assert red > blue, "the maximum is yellow or red"
    even = with_heatmap(torch.full((8, 8, 3), 0.5), torch.ones(2, 2))
    assert bool(torch.isfinite(even).all()) and even.std(0).max() < 1e-6


def test_the_outline_follows_the_mask_and_the_background_is_faded():
    image, mask = torch.zeros(100, 100, 3) + torch.tensor([0.0, 0.6, 0.0]), torch.zeros(50, 50)
    mask[10:30, 20:40] = 1  # rows 20 to 60, columns 40 to 80 of the image
    drawn = outlined(image, mask)
    border = where(drawn, colour(ACCENT), 0.2)
    assert (border.amin(0) - torch.tensor([20, 40])).abs().max() < 2.5 and (border.amax(0) - torch.tensor([59, 79])).abs().max() < 2.5
    torch.testing.assert_close(drawn[40, 60], image[40, 60])
    washed = drawn[80, 10]
    assert washed.std() < 1e-6 and washed[0] > 0.4


def test_the_curve_follows_its_values():
    page = Page(300, 200)
    page.curve([3.0, 2.0, float("nan"), 1.0], 0, 0, 300, 200)
    line = where(page.pixels(), colour(LINE))
    first, last = line[line[:, 1] < line[:, 1].min() + 5].mean(0), line[line[:, 1] > line[:, 1].max() - 5].mean(0)
    assert first[0] < 40 and last[0] > 150, "it falls from the top to the bottom"


def test_a_small_change_looks_small():
    page = Page(300, 200)
    page.curve([0.5, 0.499, 0.498], 0, 0, 300, 200)
    line = where(page.pixels(), colour(LINE))
    assert line[:, 0].max() - line[:, 0].min() < 20, "0.4 % of the start is a fiftieth of the axis"


def test_long_text_is_wrapped_and_none_of_it_is_lost():
    text = "the words attend less to the mask than to the rest of the image, all round"
    lines = wrapped(text, 17, 200)
    assert " ".join(lines) == text and len(lines) > 2
    assert Page(220, 200).paragraph(10, 10, text, 17, 200) == pytest.approx(10 + len(lines) * 1.35 * 17)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5], [float("nan")], [1e-9, 1.0000001e-9], [1e6, 0.0], list(range(500))])
def test_any_values_can_be_plotted(values):
    page = Page(120, 80)
    page.curve(values, 0, 0, 120, 80)
    assert bool((page.pixels() < 0.9).any()) == any(v == v for v in values)
