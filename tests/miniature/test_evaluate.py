"""Evaluation: scenes that cover every word, references, and the order of scores."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from hybridbooth_core.miniature.evaluate import EVALUATION_SCENES, class_nouns, evaluate, join, reference_of, score
from hybridbooth_core.miniature.judging import accuracies, identity_score
from hybridbooth_core.miniature.nets import Judge
from hybridbooth_core.miniature.render import render
from hybridbooth_core.miniature.world import ACCESSORIES, BACKGROUNDS, KINDS, PLACES, SIZES, STYLES, creatures, repeat, split_numbers


def test_the_eight_scenes_use_every_word():
    where = join(EVALUATION_SCENES)
    assert len(where) == 8 and not where.jitter.any()
    for name, options in (("background", BACKGROUNDS), ("place", PLACES), ("size", SIZES), ("accessory", ACCESSORIES), ("style", STYLES)):
        assert getattr(where, name).unique().tolist() == list(range(len(options))), name


def test_a_reference_is_one_photo_of_the_creature():
    who = creatures(split_numbers("test", 5))
    refs = [reference_of(who, row) for row in range(5)]
    again = reference_of(who[torch.tensor([3, 0])], 0)
    assert torch.equal(again.images, refs[3].images) and torch.equal(again.masks, refs[3].masks)
    for ref in refs:
        assert ref.images.shape == (1, 64, 64, 3) and ref.masks.amax() > 0.99
        colour = ref.images.amax(-1) - ref.images.amin(-1)
        assert colour.max() > 0.2, "a photo, not a sketch"
    assert len({ref.images.double().sum().item() for ref in refs}) == 5


def test_scores_are_indexed_by_identity_and_scene():
    torch.manual_seed(0)
    judge, who = Judge().eval(), creatures(split_numbers("test", 3))
    where = join(EVALUATION_SCENES)
    everyone, everywhere = repeat(who, 8), where[torch.arange(8).repeat(3)]
    images = torch.rand(24, 64, 64, 3)
    scores = score(judge, images, everyone, everywhere, (3, 8))
    row = 1 * 8 + 5
    truth = render(who[1:2], EVALUATION_SCENES[5])[0]
    torch.testing.assert_close(scores.identity[1, 5], identity_score(judge, images[row : row + 1], truth)[0], atol=1e-5, rtol=1e-4)
    right = accuracies(judge, images, everyone, everywhere)
    assert torch.equal(scores.prompt, right["prompt"].view(3, 8)) and torch.equal(scores.kind, right["kind"].view(3, 8))


def test_true_renders_score_one():
    torch.manual_seed(0)
    who = repeat(creatures(split_numbers("test", 2)), 8)
    where = join(EVALUATION_SCENES)[torch.arange(8).repeat(2)]
    torch.testing.assert_close(score(Judge().eval(), render(who, where)[0], who, where, (2, 8)).identity, torch.ones(2, 8))


def test_every_subject_is_generated_in_every_scene_from_the_same_noise(world, monkeypatch):
    asked = []

    def draw(model, prompts, start, steps, guidance):
        asked.append((list(prompts), start.clone(), steps, guidance))
        return torch.rand(len(prompts), 64, 64, 3)

    monkeypatch.setattr("hybridbooth_core.miniature.evaluate.generate", draw)
    torch.manual_seed(0)
    who, words = creatures(split_numbers("test", 2)), torch.zeros(5, 96)
    for subjects in (class_nouns(who), [words, words]):
        evaluate(SimpleNamespace(), Judge().eval(), who, subjects, EVALUATION_SCENES[:3], seed=4, steps=2, guidance=2.5)
    (text, start, steps, guidance), (tensors, same_start, *_) = asked
    assert torch.equal(start, same_start) and (steps, guidance) == (2, 2.5) and len(text) == 6
    assert [prompt[1] for prompt in text] == [KINDS[int(kind)] for kind in who.kind.repeat_interleave(3)]
    assert [prompt[0] for prompt in text] == [prompt[0] for prompt in tensors] and all(prompt[1] is words for prompt in tensors)
    assert text[0][2] == text[3][2] != text[1][2]


def test_batches_keep_the_order(monkeypatch):
    sizes = []

    def draw(model, prompts, start, steps, guidance):
        sizes.append(len(prompts))
        return start[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3).movedim(1, -1).sigmoid()

    monkeypatch.setattr("hybridbooth_core.miniature.evaluate.generate", draw)
    torch.manual_seed(0)
    who = creatures(split_numbers("test", 9))
    scores = evaluate(SimpleNamespace(), Judge().eval(), who, class_nouns(who))
    assert sizes == [64, 8] and scores.identity.shape == (9, 8)
