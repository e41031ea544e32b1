"""The probe-free benchmark: its settings fit together, it runs, and what is committed says what the interface says."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULT = json.loads((ROOT / "benchmarks" / "results" / "probe_free.json").read_text())


@pytest.fixture(scope="module")
def bench():
    pytest.importorskip("diffusers")
    spec = importlib.util.spec_from_file_location("benchmark_probe_free", ROOT / "benchmarks" / "probe_free.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["benchmark_probe_free"] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def test_names_in_the_plan_exist(bench):
    assert {bench.BASELINE, *bench.PROMISING} <= set(bench.SEARCH)
    assert {name for gap in bench.GAPS for name in gap} <= set(bench.METHODS)


def test_a_short_measurement(bench, monkeypatch):
    monkeypatch.setattr(bench, "METHODS", {name: bench.METHODS[name] for name in ("class_noun", "retrieved")})
    monkeypatch.setattr(bench, "GAPS", (("retrieved", "class_noun"),))
    monkeypatch.setattr(bench, "EVALUATION_SCENES", bench.EVALUATION_SCENES[:1])
    measured = bench.measure(bench.load_miniature(), 2)
    assert set(measured["rows"]) == {"class_noun", "retrieved"} and set(measured["gaps"]) == {"retrieved - class_noun"}
    assert 0 <= measured["noun_found"] <= 1
    assert measured["rows"]["class_noun"]["identity"] != measured["rows"]["retrieved"]["identity"]


def test_committed_a_start_without_a_probe_lands_clearly_between_class_noun_and_trained_probe():
    measured = RESULT["measured"]
    assert measured["test_creatures"] >= 32 and RESULT["search"]["tune_creatures"] >= 32
    for gap in ("probe_free - class_noun", "probe - probe_free"):
        assert measured["gaps"][gap]["identity"]["ci95"][0] > 0, gap
