"""What was measured of strength belongs to the strength that is shipped, and says what the pages say."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.strength import STRENGTHS
from benchmarks.strength_plot import strength_image
from benchmarks.tables import results
from hybridbooth_core.files.subject import reach


@pytest.fixture(scope="module")
def measured() -> dict:
    return results("strength")


def test_it_was_measured_with_the_shipped_curve(measured):
    assert measured["reach"] == [round(reach(strength), 6) for strength in STRENGTHS]


@pytest.mark.parametrize("run", ["probe_tune", "noun_tune", "probe_test", "noun_test"])
def test_identity_rises_to_one_and_nothing_collapses_above(measured, run):
    rows = [measured[run]["along"][f"{place:.6g}"] for place in measured["reach"]]
    identity = [row["identity"] for row in rows]
    assert all(after >= before - 0.01 for before, after in pairwise(identity[:5])), "up to 1"
    assert min(identity[5:]) > identity[4] - 0.03 and min(row["class"] for row in rows[5:]) > rows[4]["class"] - 0.06


def test_half_the_strength_is_no_longer_nearly_the_noun(measured):
    along = measured["probe_tune"]["along"]
    share = {place: along[f"{place:.6g}"]["identity"] / along["1"]["identity"] for place in (0.5, reach(0.5))}
    assert share[0.5] < 0.35 and 0.5 < share[reach(0.5)] < 0.75


def test_the_figure_is_drawn(measured, tmp_path):
    pytest.importorskip("matplotlib")
    strength_image(measured, tmp_path / "strength.png")
    assert (tmp_path / "strength.png").stat().st_size > 10_000
