"""The probe-free benchmark: its settings fit together, it runs, and what is committed says what the interface says."""

from __future__ import annotations

import json

from benchmarks import probe_free as bench
from benchmarks.provenance import RESULTS, probe_digest

RESULT = json.loads((RESULTS / "probe_free.json").read_text())


def test_names_in_the_plan_exist():
    assert {bench.BASELINE, *bench.PROMISING} <= set(bench.SEARCH)
    assert {name for gap in bench.GAPS for name in gap} <= set(bench.METHODS)


def test_a_short_measurement(monkeypatch):
    monkeypatch.setattr(bench, "METHODS", {name: bench.METHODS[name] for name in ("class_noun", "retrieved")})
    monkeypatch.setattr(bench, "GAPS", (("retrieved", "class_noun"),))
    monkeypatch.setattr(bench, "EVALUATION_SCENES", bench.EVALUATION_SCENES[:1])
    measured = bench.measure(bench.load_miniature(), 2)
    assert set(measured["rows"]) == {"class_noun", "retrieved"} and set(measured["gaps"]) == {"retrieved - class_noun"}
    assert 0 <= measured["noun_found"] <= 1
    assert measured["rows"]["class_noun"]["identity"] != measured["rows"]["retrieved"]["identity"]


def test_committed_a_start_without_a_probe_is_clearly_above_the_class_noun():
    """Rows with a trained probe, if there are any, are those of the shipped one."""
    measured = RESULT["measured"]
    assert "probe" not in measured["rows"] or measured["probe"] == probe_digest()
    assert measured["test_creatures"] >= 32 and RESULT["search"]["tune_creatures"] >= 32
    assert measured["gaps"]["probe_free - class_noun"]["identity"]["ci95"][0] > 0
