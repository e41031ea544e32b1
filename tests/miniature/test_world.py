"""Creatures depend on their numbers alone, splits are disjoint, and attributes have their distributions."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.miniature.world import (
    ACCESSORIES,
    BACKGROUNDS,
    KINDS,
    PATTERNS,
    PLACES,
    SIZES,
    SPLITS,
    STYLES,
    creatures,
    random_scenes,
    repeat,
    scene,
    split_numbers,
)

MASK = (1 << 64) - 1


def splitmix(number: int, salt: int) -> float:
    """The 24 upper bits of splitmix64's finaliser of number and salt, in Python integers."""
    z = (number * 0x9E3779B97F4A7C15 + (salt + 1) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    z = z ^ (z >> 31)
    return (z >> 40) / (1 << 24)


@pytest.fixture(scope="module")
def many():
    return creatures(split_numbers("train", 20_000))


def test_a_number_is_always_the_same_creature():
    """Frozen on 2026-11-20: if this fails, every committed weight and result is about other creatures."""
    who = creatures(torch.tensor([0, 999_999, 1_000_000, 2_000_000, 2_009_999]))
    assert who.kind.tolist() == [3, 0, 3, 0, 2] and who.pattern.tolist() == [3, 5, 0, 1, 4]
    expected = {
        "hue": [[0.1649942, 0.6183712], [0.382776, 0.7731562], [0.7108176, 0.2408777], [0.2895718, 0.5365512], [0.4159096, 0.1226101]],
        "saturation": [
            [0.649676, 0.9091992],
            [0.8991222, 0.9326931],
            [0.5705741, 0.919995],
            [0.7186542, 0.8492746],
            [0.5901927, 0.7993398],
        ],
        "value": [[0.7129467, 0.7494403], [0.8513434, 0.5893355], [0.5479078, 0.8683208], [0.9970739, 0.6810095], [0.6003979, 0.7164339]],
        "frequency": [0.7800432, 0.002422, 0.3841131, 0.68687, 0.4329435],
        "aspect": [0.9316944, 0.9396631, 0.1625566, 0.9049493, 0.4292757],
        "ear": [0.42493, 0.3753805, 0.1002784, 0.2565957, 0.2835081],
        "eye": [0.8448229, 0.9816555, 0.9152122, 0.4828948, 0.5992366],
    }
    for name, values in expected.items():
        torch.testing.assert_close(getattr(who, name), torch.tensor(values), atol=1e-6, rtol=0)


def test_attributes_are_splitmix_hashes_of_the_number():
    numbers = [0, 1, 12345, 2_009_999, 2**40 + 7]
    who = creatures(torch.tensor(numbers))
    for row, number in enumerate(numbers):
        assert int(who.kind[row]) == int(splitmix(number, 0) * 4) and int(who.pattern[row]) == int(splitmix(number, 7) * 6)
        assert float(who.hue[row, 0]) == splitmix(number, 1) and float(who.eye[row]) == splitmix(number, 11)


def test_a_creature_does_not_depend_on_its_batch():
    alone, together = creatures(torch.tensor([77])), creatures(torch.arange(60, 90))
    for name, value in vars(together[17:18]).items():
        assert torch.equal(value, getattr(alone, name)), name


def test_splits_are_disjoint():
    ranges = list(SPLITS.values())
    assert set(SPLITS) == {"train", "tune", "test"}
    for i, one in enumerate(ranges):
        for other in ranges[:i]:
            assert one.stop <= other.start or other.stop <= one.start
    for name, numbers in SPLITS.items():
        whole = split_numbers(name, len(numbers))
        assert whole.min() == numbers.start and whole.max() == numbers.stop - 1 and len(whole.unique()) == len(numbers)


@pytest.mark.parametrize(
    ("split", "count", "start"), [("test", 10_001, 0), ("test", 1, 10_000), ("test", 1, -1), ("tune", -1, 0), ("x", 1, 0)]
)
def test_numbers_outside_a_split_are_refused(split, count, start):
    with pytest.raises(ValueError, match=r"creatures 0 to 9999|train, tune, test"):
        split_numbers(split, count, start)


def test_the_last_creature_of_a_split_is_in_it():
    assert split_numbers("test", 1, 9_999).tolist() == [2_009_999] and len(split_numbers("test", 0, 10_000)) == 0


def test_attributes_are_uniform_in_their_ranges(many):
    ranges = {"frequency": (0, 1), "aspect": (0, 1), "ear": (0, 1), "eye": (0, 1), "saturation": (0.55, 0.95), "value": (0.5, 1)}
    for name, (low, high) in ranges.items():
        found = getattr(many, name)
        assert low <= found.min() and found.max() < high + 1e-6 and found.dtype == torch.float32
        assert found.mean().item() == pytest.approx((low + high) / 2, abs=0.02 * (high - low)), name
        assert found.std().item() == pytest.approx((high - low) / 12**0.5, rel=0.02), name
    for name, options in (("kind", KINDS), ("pattern", PATTERNS)):
        shares = torch.bincount(getattr(many, name), minlength=len(options)) / len(many)
        assert len(shares) == len(options) and bool(((shares - 1 / len(options)).abs() < 0.015).all()), name


def test_the_two_hues_are_apart_on_the_circle(many):
    assert many.hue.min() >= 0 and many.hue.max() < 1
    gap = (many.hue[:, 0] - many.hue[:, 1]).abs()
    assert torch.minimum(gap, 1 - gap).min() >= 0.2 - 1e-5


def test_attributes_are_independent(many):
    columns = [many.kind, many.pattern, many.hue[:, 0], *many.saturation.T, *many.value.T, many.frequency, many.aspect, many.ear, many.eye]
    correlation = torch.corrcoef(torch.stack(columns).double()) - torch.eye(len(columns))
    assert correlation.abs().max() < 0.03


def test_no_two_creatures_are_alike(many):
    assert len(torch.stack([many.frequency, many.aspect, many.ear], 1).unique(dim=0)) == len(many)


def test_scenes_come_from_their_generator_and_cover_everything():
    scenes = random_scenes(4000, torch.Generator().manual_seed(1))
    again = random_scenes(4000, torch.Generator().manual_seed(1))
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(scenes).items())
    for name, options in (("background", BACKGROUNDS), ("place", PLACES), ("size", SIZES), ("accessory", ACCESSORIES)):
        shares = torch.bincount(getattr(scenes, name)) / 4000
        assert len(shares) == len(options) and bool(((shares - 1 / len(options)).abs() < 0.03).all()), name
    styles = torch.bincount(scenes.style) / 4000
    assert styles[0].item() == pytest.approx(0.5, abs=0.03) and len(styles) == len(STYLES) and styles[1:].min() > 0.13
    assert scenes.jitter.shape == (4000, 3) and -1 <= scenes.jitter.min() < -0.99 and 0.99 < scenes.jitter.max() <= 1


def test_a_scene_by_its_words():
    one = scene("sand", "left", "small", "crown", "night")
    words = (BACKGROUNDS[one.background], PLACES[one.place], SIZES[one.size], ACCESSORIES[one.accessory], STYLES[one.style])
    assert words == ("sand", "left", "small", "crown", "night") and not one.jitter.any() and len(one) == 1


@pytest.mark.parametrize("wrong", [{"background": "moon"}, {"place": "top"}, {"size": "huge"}, {"accessory": "scarf"}, {"style": "oil"}])
def test_an_unknown_word_is_refused(wrong):
    name, word = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=rf"expected {name} to be one of .*'{word}'"):
        scene(**({"background": "snow"} | wrong))


def test_batches_are_indexed_and_repeated_row_by_row(many):
    rows = many[torch.tensor([3, 1])]
    assert rows.number.tolist() == [3, 1] and torch.equal(rows.hue, many.hue[[3, 1]]) and len(rows) == 2
    assert repeat(rows, 3).number.tolist() == [3, 3, 3, 1, 1, 1] and len(many[:0]) == 0
