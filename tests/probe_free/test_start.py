"""Initial embeddings and their refinement: provenance, refusals, and a lower loss in the miniature."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hybridbooth_core.encoders.features import Reference
from hybridbooth_core.files.subject import Subject, SubjectInfo
from hybridbooth_core.probe_free.inversion import InversionConfig
from hybridbooth_core.probe_free.refining import REFINING, refine_subject
from hybridbooth_core.probe_free.start import StartConfig, initial_embeddings, personalize_without_probe

QUICK = replace(REFINING, steps=2, validation=2, batch=2)


def test_without_inversion_every_token_is_the_noun(world, space, subject):
    start = initial_embeddings(world, space, subject.ref, "cat", StartConfig(num_tokens=3, inversion=InversionConfig(steps=0)))
    assert torch.equal(start.subject.embeddings, world.token_embeddings("cat").expand(3, -1))
    assert (start.subject.info.class_noun, start.subject.info.method, start.subject.info.images) == ("cat", "probe-free", 2)
    assert start.subject.info.base_fingerprint == world.fingerprint and "no inversion steps" in start.report()


def test_attributes_come_before_the_noun(world, space, subject):
    start = initial_embeddings(world, space, subject.ref, "cat", StartConfig(attributes=True, inversion=InversionConfig(steps=0)))
    found = [ranked.word for ranked in start.retrieved.attributes]
    assert found and all(word in start.report() for word in found)
    assert torch.equal(start.subject.embeddings[: len(found)], world.token_embeddings(" ".join(found)))
    assert torch.equal(start.subject.embeddings[len(found) :], world.token_embeddings("cat").expand(5 - len(found), -1))


def test_one_token_is_enough_and_inversion_is_reported(world, space, subject):
    seen = []
    config = StartConfig(num_tokens=1, attributes=True, inversion=InversionConfig(steps=3))
    start = initial_embeddings(world, space, subject.ref, " cat ", config, lambda *step: seen.append(step))
    assert start.subject.embeddings.shape == (1, 96) and len(seen) == 3 and "3 inversion steps" in start.report()
    assert not torch.equal(start.subject.embeddings, world.token_embeddings("cat"))


def test_an_unknown_noun_is_refused_before_images_are_encoded(world, space, refuses):
    nothing = Reference(torch.zeros(0), None)
    assert "zebra" in refuses(initial_embeddings, world, space, nothing, "zebra")
    refuses(StartConfig, num_tokens=0)
    refuses(StartConfig, num_tokens=17)


def test_refining_keeps_the_subjects_metadata(world, subject):
    info = SubjectInfo(class_noun="cat", method="mapper elite", probe="ELITE", licence="Apache-2.0", base_model="another")
    given = Subject(torch.randn(3, 96), info)
    made = refine_subject(world, subject.ref, given, QUICK)
    kept = made.subject.info
    assert (kept.class_noun, kept.method, kept.probe, kept.licence) == ("cat", "mapper elite", "ELITE", "Apache-2.0")
    assert (kept.base_model, kept.base_fingerprint, kept.steps, kept.images) == (world.name, world.fingerprint, 2, 2)
    assert torch.equal(made.start, given.embeddings) and kept.validated == [0, 2]
    assert refine_subject(world, subject.ref, Subject(given.embeddings), QUICK).subject.info.method == "words"


def test_a_subject_for_another_model_is_refused(world, subject, refuses):
    assert "768" in refuses(refine_subject, world, subject.ref, Subject(torch.randn(5, 768)), QUICK)


def test_other_modes_are_refused(world, subject, refuses):
    assert "words" in refuses(refine_subject, world, subject.ref, Subject(torch.randn(5, 96)), replace(QUICK, mode="residual"))


@pytest.mark.parametrize("class_noun", ["cat", ""])
def test_both_together(class_noun, world, space, subject):
    config = StartConfig(inversion=InversionConfig(steps=1))
    made, start = personalize_without_probe(world, space, subject.ref, class_noun, config, QUICK)
    assert made.subject.info.method == "probe-free" and made.subject.info.steps == 2
    assert made.subject.info.class_noun == start.retrieved.noun
    assert torch.equal(made.start, start.subject.embeddings) and "2 steps (probe-free" in made.report()


def test_in_the_miniature_refinement_lowers_the_loss_by_a_tenth(shipped):
    made, _ = personalize_without_probe(
        shipped.model, shipped.space, shipped.refs[0], shipped.nouns[0], refining=replace(REFINING, steps=16)
    )
    assert min(made.refinement.validation) < 0.9 * made.refinement.validation[0]
