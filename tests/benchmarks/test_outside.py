"""The committed tables of subjects outside the probe's training, and how they are summarised."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import pytest

from benchmarks.outside.measure import WORSE, summary
from benchmarks.outside.rows import DEFAULT, ROWS
from benchmarks.outside.transfer import REGRESSORS, SEEDS, measure_no_probe, measure_split, splits, table
from benchmarks.tables import results
from hybridbooth_core.miniature.world import KINDS

COLUMNS = {
    "kind",
    "method",
    "steps",
    "identity",
    "identity_ci95",
    "novelty",
    "prompt",
    "minus_probe",
    "minus_probe_ci95",
    "share_worse",
    "gflop",
}


def made(identity: float, steps: float = 0.0) -> dict[str, float]:
    return {"identity": identity, "prompt": 1.0, "novelty": 0.5, "steps": steps}


def test_a_row_is_a_mean_over_creatures_of_means_over_probes():
    by_creature = {"probe": {1: [made(0.1), made(0.3)], 2: [made(0.6)]}, DEFAULT: {1: [made(0.3, 10), made(0.27, 25)], 2: [made(0.9, 10)]}}
    probe, default = summary(by_creature, {DEFAULT: 12.345})
    assert (probe["identity"], probe["minus_probe"], probe["share_worse"], probe["gflop"]) == (0.4, 0, 0, None)
    assert default["identity"] == pytest.approx((0.285 + 0.9) / 2, abs=1e-3) and default["minus_probe"] == pytest.approx(0.1925, abs=1e-3)
    assert default["share_worse"] == pytest.approx(1 / 3, abs=1e-3), f"one of three subjects fell by more than {WORSE}"
    assert default["steps"] == 13.75 and default["gflop"] == 12.35
    low, high = default["minus_probe_ci95"]
    assert low == pytest.approx(0.085, abs=1e-3) and high == pytest.approx(0.3, abs=1e-3)


def test_a_table_takes_the_creatures_whose_kind_was_seen_or_was_not():
    def scores(*identity: float) -> dict[str, list[float]]:
        return {"identity": list(identity), "prompt": [1.0, 1.0], "novelty": [1.0, 1.0], "steps": [0.0, 0.0]}

    records = {"resampler-a": {"numbers": [1, 2], "seen": [True, False], "scores": {"probe": scores(0.8, 0.2)}},
               "promptnet-a": {"numbers": [1, 2], "seen": [True, False], "scores": {"probe": scores(0.0, 0.0)}}}  # fmt: skip
    alone = {"numbers": [1, 2], "scores": {"no_probe_30": scores(0.5, 0.6)}}
    seen, unseen = (table(records, alone, "resampler", known, {}) for known in (True, False))
    assert [row["identity"] for row in seen] == [0.8, 0.5] and [row["identity"] for row in unseen] == [0.2, 0.6]
    assert {row["kind"] for row in unseen} == {"unseen kinds"}


def test_every_kind_is_left_out_and_every_seed_used():
    plan = splits()
    assert {(split.regressor, split.seed) for split in plan} == {(regressor, seed) for regressor in REGRESSORS for seed in SEEDS}
    assert all(len(set(split.kinds)) == 2 and max(split.kinds) < len(KINDS) for split in plan)
    assert len({split.kinds for split in plan}) == 6 and len({split.name for split in plan}) == len(plan)


def test_other_processes_can_import_what_they_are_asked_to_measure():
    """A child does not import a package's __main__, so a task that is defined there ends it."""
    for task in (partial(measure_split, splits()[0], Path("work"), 1), partial(measure_no_probe, 1)):
        assert pickle.loads(pickle.dumps(task)).func.__module__ == "benchmarks.outside.transfer"  # noqa: S301


def test_the_committed_result_has_every_row():
    measured = results("outside")
    assert measured["splits"] == [split.name for split in splits()]
    for regressor in REGRESSORS:
        for kind in ("seen kinds", "unseen kinds"):
            rows = [row for row in measured["transfer"] if (row["regressor"], row["kind"]) == (regressor, kind)]
            assert {row["method"] for row in rows} == {"class_noun", *ROWS}
            assert all(row.keys() >= COLUMNS and row["identity_ci95"][0] <= row["identity"] <= row["identity_ci95"][1] for row in rows)
            default = next(row for row in rows if row["method"] == DEFAULT)
            assert default["minus_probe_ci95"][0] > 0, "the default is clear of the probe alone"
