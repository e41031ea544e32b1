"""Refining several subjects at once gives the results of refining each alone."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hybridbooth_core.encoders.features import Reference, extract_features, reference
from hybridbooth_core.miniature.render import render
from hybridbooth_core.miniature.world import creatures, random_scenes, split_numbers
from hybridbooth_core.refine.config import FAR_STEPS, NEAR_STEPS
from hybridbooth_core.refine.many import refine_many
from hybridbooth_core.refine.refine import RefineConfig, refine
from hybridbooth_core.refine.unlikeness import FAR

WORDS = RefineConfig(mode="words", steps=3, batch=3, validation=5, step_size=0.1, seed=1)


@pytest.fixture(scope="module")
def subjects(world, encoders) -> list[SimpleNamespace]:
    """Three subjects of different class nouns: two images, one image, one image without a mask."""
    who = creatures(split_numbers("test", 3))
    images, masks = render(who, random_scenes(3, torch.Generator().manual_seed(5)))
    more, more_masks = render(who, random_scenes(3, torch.Generator().manual_seed(6)))
    refs = [
        reference(torch.stack([images[0], more[0]]), torch.stack([masks[0], more_masks[0]])),
        reference(images[1:2], masks[1:2]),
        reference(images[2:3]),
    ]
    nouns = [world.token_embeddings(name)[0] for name in ("cat", "rabbit", "fish")]
    return [
        SimpleNamespace(ref=ref, noun=noun, features=extract_features(world, encoders.clip, encoders.dino, ref), start=torch.randn(4, 96))
        for ref, noun in zip(refs, nouns, strict=True)
    ]


def of(subjects: list[SimpleNamespace], name: str) -> list:
    return [getattr(subject, name) for subject in subjects]


def same(found, alone) -> None:
    assert (found.decision.steps, found.validated, found.mode) == (alone.decision.steps, alone.validated, alone.mode)
    assert (found.embeddings - alone.embeddings).norm() <= 0.01 * (
        alone.embeddings - alone.start
    ).norm()  # Adam amplifies rounding of tiny gradients
    torch.testing.assert_close(torch.tensor(found.validation), torch.tensor(alone.validation), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.tensor(found.losses), torch.tensor(alone.losses), rtol=1e-4, atol=1e-5)


def test_given_starts_give_the_same_results(world, subjects):
    found = refine_many(world, of(subjects, "ref"), of(subjects, "noun"), WORDS, starts=of(subjects, "start"))
    for one, subject in zip(found, subjects, strict=True):
        same(one, refine(world, subject.ref, subject.noun, WORDS, start=subject.start))
    assert not torch.allclose(found[0].embeddings, found[1].embeddings, atol=1e-2)
    assert min(one.relative_change for one in found) > 1e-3


@pytest.mark.parametrize("config", [WORDS, replace(WORDS, mode="auto")], ids=["words", "auto"])
def test_a_probes_predictions_give_the_same_results(world, subjects, new_probe, config):
    probe = new_probe()
    found = refine_many(world, of(subjects, "ref"), of(subjects, "noun"), config, probe, of(subjects, "features"))
    for one, subject in zip(found, subjects, strict=True):
        same(one, refine(world, subject.ref, subject.noun, config, probe, subject.features))
        assert one.relative_changes[-1] > 1e-3


def test_subjects_share_forward_passes(world, subjects, monkeypatch):
    calls = []
    plain = type(world).predict_noise

    def counted(model, noisy, *args):
        calls.append(len(noisy))
        return plain(model, noisy, *args)

    monkeypatch.setattr(type(world), "predict_noise", counted)
    refine_many(world, of(subjects, "ref"), of(subjects, "noun"), replace(WORDS, steps=1), starts=of(subjects, "start"))
    assert calls[:3] == [15, 9, 15], "five validation samples each, three samples of the step each, and again five"


@pytest.mark.slow
def test_small_batches_give_the_same_results(world, subjects, monkeypatch):
    from hybridbooth_core.models.memory import MemoryPlan
    from hybridbooth_core.refine import many as module

    monkeypatch.setattr(module, "memory_plans", lambda batch, side: [MemoryPlan(False, 2, side)])
    found = refine_many(world, of(subjects, "ref"), of(subjects, "noun"), WORDS, starts=of(subjects, "start"))
    for one, subject in zip(found, subjects, strict=True):
        same(one, refine(world, subject.ref, subject.noun, WORDS, start=subject.start))


@pytest.mark.slow
def test_subjects_may_finish_at_different_times(world, subjects, new_probe):
    """Each subject's own gradient decides its steps: a median between them sends some far."""
    config, refs, nouns, features = RefineConfig(batch=2, validation=2), *(of(subjects, name) for name in ("ref", "noun", "features"))

    def at(median: float) -> list:
        return refine_many(world, refs, nouns, config, new_probe(gradient_norms=(median,) * 11), features)

    relative = sorted(one.decision.unlikeness for one in at(1.0))
    median = (relative[0] + relative[-1]) / 2 / FAR
    found = at(median)
    assert {one.decision.steps for one in found} == {NEAR_STEPS, FAR_STEPS}
    for one, s in zip(found, subjects, strict=True):
        same(one, refine(world, s.ref, s.noun, config, new_probe(gradient_norms=(median,) * 11), s.features))


def test_refusals(world, subjects, new_probe, refuses):
    refs, nouns, features = (of(subjects, name) for name in ("ref", "noun", "features"))
    assert "residual" in refuses(refine_many, world, refs, nouns, replace(WORDS, mode="residual"), new_probe(), features)
    refuses(refine_many, world, [], [], WORDS, starts=[])
    refuses(refine_many, world, refs, nouns, WORDS)
    with pytest.raises(ValueError, match="as many"):
        refine_many(world, refs, nouns[:2], WORDS, starts=of(subjects, "start"))
    with pytest.raises(ValueError, match="number of subject tokens"):
        refine_many(world, refs, nouns, WORDS, starts=[torch.randn(n, 96) for n in (2, 3, 3)])


def test_it_can_be_stopped_and_changes_nothing(world, subjects, state_of):
    before, captured = state_of(world.unet, world.text_encoder), []

    def stop(step):
        captured.append((step.done, step.steps))
        if len(captured) == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        refine_many(world, of(subjects, "ref"), of(subjects, "noun"), WORDS, starts=of(subjects, "start"), on_step=stop)
    assert captured == [(1, 3)] * 3 + [(2, 3)]
    after = state_of(world.unet, world.text_encoder)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_one_subject_is_enough(world, subjects):
    (found,) = refine_many(world, [Reference(subjects[1].ref.images, None)], [subjects[1].noun], WORDS, starts=[subjects[1].start])
    same(found, refine(world, Reference(subjects[1].ref.images, None), subjects[1].noun, WORDS, start=subjects[1].start))
