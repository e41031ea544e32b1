"""Masks as people have them become masks of the image, or none; what was done is said in a sentence."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.encoders.features import reference
from hybridbooth_core.encoders.masks import NO_MASK, ROUND_MASK, fit_masks, touches_all_round
from hybridbooth_core.miniature.evaluate import reference_of
from hybridbooth_core.miniature.world import creatures, split_numbers

SIZE = (32, 48)


def disc(height: int = 32, width: int = 48, y: float = 0.5, x: float = 0.5, radius: float = 0.25) -> torch.Tensor:
    rows, columns = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return (((rows - y) ** 2 + (columns - x) ** 2).sqrt() < radius).float()[None]


@pytest.mark.parametrize(
    "mask",
    [torch.zeros(1, 64, 64), torch.ones(1, 32, 48), torch.zeros(3, 64, 64), torch.full((1, 32, 48), float("nan")), torch.zeros(0, 32, 48),
     torch.full((1, 32, 48), float("inf")), torch.full((1, 32, 48), -5.0), torch.zeros(64, 64), torch.zeros(1, 32, 48, 1)],
    ids=["load image of a jpg", "ones", "three of zeros", "nan", "none", "infinity", "negative", "no batch axis", "channel"],
)  # fmt: skip
@pytest.mark.parametrize("count", [1, 2])
def test_a_mask_that_says_nothing_is_no_mask_with_one_notice(mask: torch.Tensor, count: int):
    assert fit_masks(mask, count, *SIZE) == (None, (NO_MASK,))
    assert reference(torch.rand(count, *SIZE, 3), mask).masks is None


@pytest.mark.parametrize("shape", [(1, 32, 48), (32, 48), (1, 32, 48, 1), (1, 1, 32, 48)], ids=str)
def test_a_mask_of_the_images_size_stays_as_it_is(shape: tuple[int, ...]):
    found, said = fit_masks(disc().reshape(shape), 1, *SIZE)
    assert found is not None and torch.equal(found, disc()) and said == ()


@pytest.mark.parametrize("scale", [0.5, 2, 5])
def test_a_mask_of_another_size_is_resized_without_a_word(scale: float):
    found, said = fit_masks(disc(round(32 * scale), round(48 * scale)), 1, *SIZE)
    assert found is not None and found.shape == (1, *SIZE) and said == ()
    assert ((found > 0.5) == (disc() > 0.5)).float().mean() > 0.97


def test_a_mask_of_another_shape_is_stretched_and_that_is_said():
    found, said = fit_masks(disc(40, 40), 1, *SIZE)
    assert found is not None and found.shape == (1, *SIZE) and "40x40" in said[0] and "48x32" in said[0]


def test_one_mask_serves_a_batch():
    found, said = fit_masks(disc(), 3, *SIZE)
    assert found is not None and torch.equal(found, disc().expand(3, -1, -1)) and said == ()
    found[0] = 0
    assert found[1].any(), "masks that share memory change together"


def test_another_number_of_masks_is_refused(refuses):
    assert "one for each image (3), found 2" in refuses(fit_masks, disc().expand(2, -1, -1), 3, *SIZE)
    assert "[5]" in refuses(fit_masks, torch.ones(5), 1, *SIZE)


def test_an_empty_mask_among_others_stands_for_the_whole_image():
    found, said = fit_masks(torch.cat([disc(), torch.zeros(1, *SIZE)]), 2, *SIZE)
    assert found is not None and torch.equal(found[0], disc()[0]) and found[1].min() == 1 and "image 2" in said[0]


def test_a_mask_can_be_inverted():
    found, said = fit_masks(1 - disc(), 1, *SIZE, invert=True)
    assert found is not None and torch.equal(found, disc()) and said == ()
    assert fit_masks(torch.zeros(1, 64, 64), 1, *SIZE, invert=True) == (None, (NO_MASK,))


def test_a_mask_of_the_background_is_asked_about():
    assert fit_masks(1 - disc(), 1, *SIZE)[1] == (ROUND_MASK,)
    assert fit_masks(disc(y=0.9), 1, *SIZE)[1] == (), "a subject at the lower border"


def test_true_masks_touch_the_border_nowhere_near_all_round_and_inverted_ones_do():
    who = creatures(split_numbers("tune", 32))
    masks = torch.cat([reference_of(who, row).masks for row in range(32)])  # type: ignore[misc]
    assert not touches_all_round(masks).any() and touches_all_round(1 - masks).all()


def test_the_callers_mask_is_left_alone():
    mask = disc(16, 24)
    before = mask.clone()
    fit_masks(mask, 2, *SIZE, invert=True)
    assert torch.equal(mask, before)
