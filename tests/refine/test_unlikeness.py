"""How unlike a subject is, and what follows from it."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.refine.config import FAR_STEPS, NEAR_STEPS, RefineConfig
from hybridbooth_core.refine.refine import refine
from hybridbooth_core.refine.unlikeness import ANCHOR, FAR, Decision, decide, deciles, gradient_norm, likeness

TRAINED = deciles([0.1, 0.2, 0.4])


def test_deciles_are_those_of_the_norms():
    found = deciles([float(number) for number in range(101)])
    assert found == tuple(range(0, 101, 10)) and TRAINED[0] == 0.1 and TRAINED[5] == 0.2 and TRAINED[10] == 0.4


def test_a_gradient_is_measured_in_lengths_of_an_embedding():
    gradient = torch.randn(5, 8)
    assert gradient_norm(gradient, 3.0) == pytest.approx(3.0 * gradient.double().square().sum().sqrt().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("norm", "expected"),
    [(0.2, Decision(NEAR_STEPS, ANCHOR, 1.0)), (0.39, Decision(NEAR_STEPS, ANCHOR, 1.95)), (0.5, Decision(FAR_STEPS, 0.0, 2.5))],
)
def test_a_large_gradient_takes_more_steps_without_anchor(norm, expected):
    found = decide(RefineConfig(), norm, TRAINED)
    assert (found.steps, found.anchor, found.unlikeness) == (expected.steps, expected.anchor, pytest.approx(expected.unlikeness))


def test_what_is_given_is_kept():
    assert decide(RefineConfig(steps=7), 0.5, TRAINED).steps == 7 and decide(RefineConfig(steps=7), 0.5, TRAINED).anchor == 0
    assert decide(RefineConfig(anchor=3.0), 0.5, TRAINED).anchor == 3 and decide(RefineConfig(anchor=0.0), 0.1, TRAINED).anchor == 0


def test_a_weak_probe_needs_many_steps_for_everyone():
    found = decide(RefineConfig(), 0.2, TRAINED, weak=True)
    assert (found.steps, found.anchor, found.weak) == (FAR_STEPS, 0.0, True)
    assert decide(RefineConfig(steps=3, anchor=2.0), 0.2, TRAINED, weak=True).steps == 3


@pytest.mark.parametrize("unknown", [(), (0.0,) * 11])
def test_a_probe_that_does_not_say_it_takes_every_subject_for_a_like_one(unknown):
    assert decide(RefineConfig(), 100.0, unknown) == Decision(NEAR_STEPS, ANCHOR, None)


def test_it_is_said_in_words():
    assert [likeness(value) for value in (0.5, 1.4, 1.6, FAR, FAR + 0.01)] == [
        "like those", "like those", "somewhat unlike those", "somewhat unlike those", "unlike those",
    ]  # fmt: skip


@pytest.mark.parametrize(("median", "steps"), [(1e-9, FAR_STEPS), (1e6, NEAR_STEPS)])
def test_a_refinement_decides_by_the_probes_file(world, subject, new_probe, median, steps):
    probe = new_probe(gradient_norms=(median,) * 11)
    seen = []
    made = refine(world, subject.ref, subject.noun, RefineConfig(batch=2, validation=1), probe, subject.features, on_step=seen.append)
    assert len(made.losses) == made.decision.steps == steps and {step.steps for step in seen} == {steps}
    assert made.decision.anchor == (0 if steps == FAR_STEPS else ANCHOR) and made.mode == "words"
