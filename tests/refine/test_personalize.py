"""Personalization: the subject's metadata, the report, and refusals."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hybridbooth_core.files.subject import Subject
from hybridbooth_core.models.adapter import class_embedding
from hybridbooth_core.models.memory import MemoryPlan
from hybridbooth_core.models.peak_memory import PeakMemory
from hybridbooth_core.refine.personalize import check_probe, personalize
from hybridbooth_core.refine.refine import RefineConfig, refine

QUICK = RefineConfig(steps=2, batch=2, validation=2, step_size=5e-3, seed=4)


def test_the_subject_is_the_refined_prediction_with_metadata(world, subject, new_probe, tmp_path):
    probe = new_probe(trained_on="nothing yet")
    result = personalize(world, probe, subject.ref, subject.features, " cat ", QUICK)
    expected = refine(world, subject.ref, subject.noun, QUICK, probe, subject.features)
    assert torch.equal(result.subject.embeddings, expected.embeddings) and torch.equal(result.start, expected.start)
    info = result.subject.info
    assert (info.class_noun, info.base_model, info.base_fingerprint) == ("cat", world.name, world.fingerprint)
    assert (info.probe, info.method, info.steps, info.seed, info.images) == ("nothing yet", "words", 2, 4, 2)
    assert info.validation == [round(loss, 6) for loss in expected.validation]
    assert info.relative_change == expected.relative_change and info.step_size == 5e-3
    result.subject.save(tmp_path / "cat.safetensors")
    assert Subject.load(tmp_path / "cat.safetensors", width=96).info == info


def test_without_steps_the_prediction_is_returned(world, subject, new_probe):
    result = personalize(world, new_probe(), subject.ref, subject.features, "cat", RefineConfig(steps=0, validation=2))
    assert result.subject.info.method == "none" and result.subject.info.steps == 0
    assert torch.equal(result.subject.embeddings, result.start)


def test_the_report_warns_about_a_tiny_change(world, subject, new_probe):
    literal = RefineConfig(mode="paper_literal", steps=1, batch=2, validation=2)
    quiet = personalize(world, new_probe(), subject.ref, subject.features, "cat", literal).report()
    moved = personalize(world, new_probe(), subject.ref, subject.features, "cat", QUICK).report()
    still = personalize(world, new_probe(), subject.ref, subject.features, "cat", RefineConfig(steps=0, validation=2)).report()
    assert "warning" in quiet and "warning" not in moved and "warning" not in still
    assert "2 steps" in moved and "tied to the prediction" in moved


def test_the_report_shows_memory(world, subject, new_probe):
    made = personalize(world, new_probe(), subject.ref, subject.features, "cat", QUICK)
    known = replace(made.refinement, memory=PeakMemory(4_400_000_000, 2_120_000_000), memory_estimate=2_345_000_000)
    line = "peak memory 4.4 GB, 2.1 GB of it for the steps (estimated 2.3 GB); checkpointing off, batch size 2, 64 px"
    assert replace(made, refinement=known).report().splitlines()[2] == line
    unknown = replace(made.refinement, memory=None, plan=MemoryPlan(True, 1, 384))
    assert replace(made, refinement=unknown).report().splitlines()[2] == "checkpointing on, batch size 1, 384 px"


def test_a_class_noun_of_several_tokens_is_their_mean(world):
    rows = world.token_embeddings("red cat")
    assert torch.equal(class_embedding(world, "red cat"), rows.mean(0)) and len(rows) == 2


@pytest.mark.parametrize("noun", ["", "  ", "\n"])
def test_an_empty_class_noun_is_refused(world, subject, new_probe, noun, refuses):
    assert "class noun" in refuses(class_embedding, world, noun)
    refuses(personalize, world, new_probe(), subject.ref, subject.features, noun, QUICK)


def test_an_unknown_class_noun_is_named(world, subject, new_probe, refuses):
    assert "'dinosaur'" in refuses(personalize, world, new_probe(), subject.ref, subject.features, "dinosaur", QUICK)


def test_a_probe_of_another_family_is_refused_with_both_widths(new_probe, subject, refuses):
    model = SimpleNamespace(embedding_width=768, name="stable diffusion 1.5", family="stable-diffusion-v1")
    for call in (lambda: check_probe(model, new_probe()), lambda: personalize(model, new_probe(), subject.ref, subject.features, "cat")):
        message = refuses(call)
        assert "96" in message and "768" in message and "stable diffusion 1.5" in message and "a test" in message


def test_on_step_is_passed_on(world, subject, new_probe):
    seen = []
    personalize(world, new_probe(), subject.ref, subject.features, "cat", QUICK, on_step=lambda step: seen.append((step.done, step.steps)))
    assert seen == [(1, 2), (2, 2)]
