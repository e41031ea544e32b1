"""Metrics by the judge for known outputs: the truth, another creature, noise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from hybridbooth_core.miniature.judging import CONTEXT, accuracies, identity_score, identity_vector, judge_loss, targets
from hybridbooth_core.miniature.nets import Judge
from hybridbooth_core.miniature.world import creatures, random_scenes, split_numbers


@pytest.fixture
def who():
    return creatures(split_numbers("tune", 500))


@pytest.fixture
def where():
    return random_scenes(500, torch.Generator().manual_seed(0))


def perfect(who, where, sharpness: float = 40.0) -> dict[str, torch.Tensor]:
    """The outputs of a perfect judge."""
    truth = targets(who, where)
    return {name: sharpness * F.one_hot(t, Judge.HEADS[name]).float() if t.ndim == 1 else t for name, t in truth.items()}


class Told:
    """A fake judge whose `images` are rows of its outputs."""

    def __init__(self, outputs):
        self.outputs = outputs

    def __call__(self, rows):
        return {name: value[rows] for name, value in self.outputs.items()}


def test_only_a_perfect_judge_has_zero_loss(who, where):
    outputs, truth = perfect(who, where), targets(who, where)
    assert judge_loss(outputs, truth).item() < 1e-5
    for name, out in outputs.items():
        assert judge_loss(outputs | {name: out.roll(1, 0)}, truth) > 0.05, name


def test_the_loss_is_the_sum_of_its_heads(who, where):
    truth = targets(who, where)
    outputs = {name: torch.randn(500, size) for name, size in Judge.HEADS.items()}
    expected = 0.0
    for name, out in outputs.items():
        if truth[name].ndim == 1:
            expected += -out.log_softmax(-1).gather(1, truth[name][:, None]).mean()
        else:
            expected += ((out - truth[name]) ** 2).mean() * (2 if name == "hue" else 8)
    torch.testing.assert_close(judge_loss(outputs, truth), expected)


def test_hues_are_circular(who, where):
    truth = targets(replace(who, hue=who.hue + 1.0), where)
    torch.testing.assert_close(truth["hue"], targets(who, where)["hue"], atol=1e-5, rtol=0)
    torch.testing.assert_close(truth["hue"][:, :2] ** 2 + truth["hue"][:, 2:] ** 2, torch.ones(500, 2))


def test_an_identity_vector_has_parts_of_unit_spread_and_tone_of_half(who, where):
    vector = identity_vector(perfect(who, where))
    assert vector.shape == (500, 18)
    spread = vector.pow(2).mean(0).sqrt()
    torch.testing.assert_close(spread, torch.tensor([1.0] * 10 + [0.5] * 4 + [1.0] * 4), atol=0.12, rtol=0)
    assert vector.mean(0).abs().max() < 0.15


def test_an_identity_excludes_the_class_noun_and_the_scene(who, where):
    other = perfect(replace(who, kind=(who.kind + 1) % 4), random_scenes(500, torch.Generator().manual_seed(9)))
    assert torch.equal(identity_vector(other), identity_vector(perfect(who, where)))


@pytest.mark.parametrize("name", ["hue", "pattern", "saturation", "value", "frequency", "aspect", "ear", "eye"])
def test_every_other_attribute_of_a_creature_is_part_of_it(who, where, name):
    other = replace(who, **{name: getattr(who, name).roll(1, 0)})
    assert not torch.allclose(identity_vector(perfect(other, where)), identity_vector(perfect(who, where)), atol=0.1)


def test_the_same_identity_scores_one_and_another_about_zero(who, where):
    judge, rows = Told(perfect(who, where)), torch.arange(500)
    torch.testing.assert_close(identity_score(judge, rows, rows), torch.ones(500))
    other = identity_score(judge, rows, rows.roll(1))
    assert other.mean().abs() < 0.05 and 0.1 < other.std() < 0.4


def test_accuracies_are_one_where_an_attribute_is_right(who, where):
    outputs = perfect(who, where)
    right = accuracies(Told(outputs), torch.arange(500), who, where)
    assert set(right) == {"kind", "pattern", "prompt", *CONTEXT} and all(bool((v == 1).all()) for v in right.values())
    assert all(v.shape == (500,) for v in right.values())


@pytest.mark.parametrize("wrong", CONTEXT)
def test_one_wrong_word_makes_the_prompt_wrong(who, where, wrong):
    outputs = perfect(who, where)
    outputs[wrong] = torch.where(torch.arange(500)[:, None] < 200, -outputs[wrong], outputs[wrong])
    right = accuracies(Told(outputs), torch.arange(500), who, where)
    assert right[wrong].mean().item() == pytest.approx(0.6) and torch.equal(right["prompt"], right[wrong])
    assert all(bool((right[name] == 1).all()) for name in right if name not in (wrong, "prompt"))


def test_a_wrong_class_noun_leaves_the_prompt_right(who, where):
    outputs = perfect(replace(who, kind=(who.kind + 1) % 4), where)
    right = accuracies(Told(outputs), torch.arange(500), who, where)
    assert not right["kind"].any() and right["prompt"].all()
