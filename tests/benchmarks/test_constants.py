"""The grid of the paper's printed constants."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import constants
from hybridbooth_core.miniature.bundle import load_miniature
from hybridbooth_core.refine import updates


def test_the_grid_holds_the_papers_pair_and_equal_products():
    assert (constants.LAMBDAS[0], constants.RATES[0]) == (1e-2, 2e-5), "the paper's own constants"
    products = [scale * rate for scale in constants.LAMBDAS for rate in constants.RATES]
    assert len({f"{product:g}" for product in products}) < len(products) == 9, "some products are equal on purpose"


def test_printed_constants_come_back_whatever_happens():
    with pytest.raises(RuntimeError), constants.printed_constants(0.5, 0.25):
        assert (updates.PAPER_LAMBDA, updates.PAPER_LR) == (0.5, 0.25)
        raise RuntimeError
    assert (updates.PAPER_LAMBDA, updates.PAPER_LR) == (1e-2, 2e-5)


def test_the_papers_pair_moves_next_to_nothing():
    world, plan = load_miniature(), replace(constants.PLAN, prompts=1, tune_identities=1, sampling_steps=2)
    paper, larger = (constants.measure_constants(world, plan, *pair) for pair in ((1e-2, 2e-5), (1.0, 3e-3)))
    assert paper["moved"] < 1e-3 < larger["moved"]
    assert paper["product"] == pytest.approx(2e-7) and paper["prompt"] >= 0
