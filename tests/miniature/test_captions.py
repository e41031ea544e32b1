"""Captions describe the image, use known words, and fit the context."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hybridbooth_core.miniature.captions import (
    HUES,
    describe,
    hue_word,
    mask_latent_weight,
    named_creatures,
    random_captions,
    scene_prompt,
    with_names,
)
from hybridbooth_core.miniature.vocabulary import LENGTH, NAMES, MiniatureTokenizer
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
    scene,
    split_numbers,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def text(prompt) -> str:
    return " ".join(str(piece) for piece in prompt)


@pytest.mark.parametrize(
    ("hue", "word"),
    [(0.0, "red"), (0.99, "red"), (0.97, "red"), (0.95, "pink"), (0.62, "blue"), (0.29, "lime"), (0.31, "green")],
)
def test_the_nearest_colour_word_on_the_circle(hue, word):
    assert hue_word(hue) == word


def test_every_colour_word_is_its_own_hue():
    assert all(hue_word(hue) == word for word, hue in HUES.items())


def test_a_description_names_pattern_colours_proportions_and_kind():
    who = replace(
        creatures(split_numbers("tune", 3)), kind=torch.tensor([0, 1, 3]), pattern=torch.tensor([1, 0, 5]),
        hue=torch.tensor([[0.0, 0.62], [0.16, 0.48], [0.35, 0.75]]), aspect=torch.tensor([0.9, 0.5, 0.1]),
    )  # fmt: skip
    assert [describe(who, row) for row in range(3)] == [
        "striped red and blue wide cat", f"{PATTERNS[0]} yellow and teal rabbit", "half green and purple narrow fish",
    ]  # fmt: skip


def test_with_nothing_kept_only_the_noun_remains():
    who = creatures(split_numbers("tune", 20))
    assert [describe(who, row, keep=0.0, generator=seeded()) for row in range(20)] == [KINDS[kind] for kind in who.kind]


def test_a_full_scene_prompt():
    subject = torch.zeros(5, 96)
    prompt = scene_prompt(scene("snow", "left", "small", "hat", "night"), 0, [subject])
    assert prompt[0] == "a photo of a small" and prompt[1] is subject and prompt[2] == "with a hat on snow on the left at night"
    sketch = scene("space", "middle", "big", "none", "sketch")
    assert text(scene_prompt(sketch, 0, ["cat"])) == "a sketch of a big cat in space in the middle"
    assert text(scene_prompt(scene("sand", style="sunset"), 0, ["cat"])) == "a photo of a big cat on sand in the middle at sunset"


def test_different_scenes_have_different_prompts():
    all_scenes = [scene(b, p, s, a, t) for b in BACKGROUNDS for p in PLACES for s in SIZES for a in ACCESSORIES for t in STYLES]
    assert len({text(scene_prompt(one, 0, ["cat"])) for one in all_scenes}) == len(all_scenes) == 6 * 3 * 2 * 3 * 4


def test_style_and_accessory_are_always_named():
    where = scene("snow", "left", "small", "crown", "sketch")
    for seed in range(50):
        said = text(scene_prompt(where, 0, ["cat"], keep=0.0, generator=seeded(seed)))
        assert said == "a sketch of cat with a crown"


def test_every_training_caption_is_known_and_fits_with_five_tokens_to_spare():
    tokenizer = MiniatureTokenizer()
    who, where = creatures(split_numbers("train", 2000)), random_scenes(2000, seeded(1))
    captions = random_captions(who, where, seeded(2))
    _, named = with_names(who, where, captions, seeded(3))
    longest = max(len(tokenizer.encode(text(caption))) for caption in [*captions, *named])
    assert 12 < longest <= LENGTH - 2
    assert max(len(tokenizer.encode(text(scene_prompt(where, row, [""])))) for row in range(2000)) + 5 <= LENGTH - 2


def test_a_fraction_of_captions_is_empty_for_guidance():
    who, where = creatures(split_numbers("train", 3000)), random_scenes(3000, seeded(1))
    empty = sum(text(caption) == "" for caption in random_captions(who, where, seeded(2)))
    assert empty / 3000 == pytest.approx(0.1, abs=0.02)
    assert not any(text(c) == "" for c in random_captions(who[:50], where[:50], seeded(2), empty=0.0))


def test_captions_are_seeded():
    who, where = creatures(split_numbers("train", 50)), random_scenes(50, seeded(1))
    assert random_captions(who, where, seeded(2)) == random_captions(who, where, seeded(2)) != random_captions(who, where, seeded(3))


def test_names_belong_to_fixed_train_creatures():
    stars = named_creatures()
    assert len(stars) == len(NAMES) == len(stars.number.unique())
    assert bool(((stars.number >= SPLITS["train"].start) & (stars.number < SPLITS["train"].stop)).all())


def test_a_named_row_has_the_named_creature():
    who, where = creatures(split_numbers("train", 1000)), random_scenes(1000, seeded(1))
    captions = random_captions(who, where, seeded(2))
    before = [value.clone() for value in vars(who).values()]
    shown, said = with_names(who, where, captions, seeded(3))
    stars, swapped = named_creatures(), 0
    for row in range(1000):
        names = [word for word in text(said[row]).split() if word in NAMES]
        if names:
            swapped += 1
            assert len(names) == 1 and shown.number[row] == stars.number[NAMES.index(names[0])]
            assert torch.equal(shown.hue[row], stars.hue[NAMES.index(names[0])])
            assert {word for word in text(said[row]).split() if word in KINDS} <= {KINDS[int(shown.kind[row])]}
        else:
            assert said[row] == captions[row] and shown.number[row] == who.number[row]
    assert swapped / 1000 == pytest.approx(0.15, abs=0.04)
    assert all(torch.equal(a, b) for a, b in zip(before, vars(who).values(), strict=True)), "the batch given was written to"


def test_the_latent_weight_is_four_on_the_creature_and_one_off_it():
    mask = torch.zeros(1, 64, 64)
    mask[:, :32], mask[:, 32:40, :4] = 1, 1
    weight = mask_latent_weight(mask, 8)
    assert weight.shape == (1, 1, 8, 8) and bool((weight[..., :4, :] == 4).all()) and bool((weight[..., 5:, :] == 1).all())
    assert weight[0, 0, 4, 0] == 2.5
