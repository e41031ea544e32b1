"""Costs: operations grow by the same amount with every step, so that two counts are enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.family import cost
from benchmarks.family.cost import cost_at, count_class_images, count_operations, line, peak_memory, points_of, warmed
from benchmarks.family.plan import QUICK, Plan
from benchmarks.family.subjects import client

PLAN = replace(QUICK, most=25, prior_images=2)


def test_a_line_goes_through_its_points():
    assert line([(3, 7.0), (5, 11.0)], 100) == pytest.approx(201)
    assert line([(0, 4.0)], 300) == 4


@pytest.mark.parametrize("method", ["textual_inversion", "dreambooth", "dreambooth_lora", "custom_diffusion"])
def test_operations_are_linear_in_steps(method, miniature):
    someone = client("tune", 0)
    prior = warmed(miniature, PLAN, someone)
    one, two, seven = (count_operations(miniature, method, someone, steps, PLAN, prior) for steps in (1, 2, 7))
    assert two > one > 0
    assert line([(1, one), (2, two)], 7) == seven
    twice = replace(PLAN, batch=2 * PLAN.batch)
    step = two - one
    step_of_twice = count_operations(miniature, method, someone, 2, twice, prior) - count_operations(
        miniature, method, someone, 1, twice, prior
    )
    assert 1.5 * step < step_of_twice <= 2 * step


def test_hybridbooth_costs_about_the_same_every_step(miniature):
    someone = client("tune", 0)
    prior = warmed(miniature, replace(PLAN, methods=("hybridbooth",)), someone)
    three, five, ten = (count_operations(miniature, "hybridbooth", someone, steps, PLAN, prior) for steps in (3, 5, 10))
    # its line search depends on whether any step was kept, so the line is good to a few validations
    assert line([(3, three), (5, five)], 10) == pytest.approx(ten, rel=0.25)
    assert three > count_operations(miniature, "encoder_only", someone, 0, PLAN, prior) > 0


def test_class_images_are_counted_apart(miniature):
    someone = client("tune", 0)
    drawn, undrawn = warmed(miniature, PLAN, someone), cost.Prior(miniature.model)
    apart = count_class_images(miniature, PLAN, someone)
    with_them = count_operations(miniature, "dreambooth_lora", someone, 1, PLAN, undrawn)
    without = count_operations(miniature, "dreambooth_lora", someone, 1, PLAN, drawn)
    assert with_them == without + apart


def test_methods_alternate_and_the_first_round_does_not_count(monkeypatch, miniature):
    called, clock = [], iter(range(1000))
    monkeypatch.setattr(cost, "personalise", lambda world, method, someone, steps, plan, prior: called.append((method, steps)))
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(clock) ** 2)
    plan = Plan(methods=("class_noun", "textual_inversion"), repeats=3)
    seconds = cost.time_methods(miniature, plan, client("tune", 0), None)
    turn = [("class_noun", 0), ("textual_inversion", 5), ("textual_inversion", 25)]
    assert called == turn * 4
    assert {method: [steps for steps, _ in points] for method, points in seconds.items()} == {
        "class_noun": [0],
        "textual_inversion": [5, 25],
    }
    spans = [(2 * i + 1) ** 2 - (2 * i) ** 2 for i in range(12)]
    assert seconds["class_noun"][0][1] == sorted([spans[3], spans[6], spans[9]])[1]


def test_costs_are_read_off_at_any_step():
    mine = {"operations": [(3, 3e9), (5, 5e9)], "seconds": [(5, 1.0), (25, 3.0)]}
    assert cost_at({"methods": {"a": mine}}, {"a": 7}, "a", 300) == {"tflop": 0.3, "seconds": 30.5, "peak_memory_bytes": 7}
    assert points_of(QUICK, "dreambooth", (5, 25)) == (5,) and points_of(QUICK, "encoder_only", (5, 25)) == (0,)


def test_peak_memory_of_the_whole_denoiser_is_tens_of_megabytes_and_a_nouns_is_none():
    assert 5e6 < (peak_memory("dreambooth", PLAN) or 0) < 2e9
    assert (peak_memory("class_noun", PLAN) or 0) < 1e6
