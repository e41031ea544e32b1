"""The bench as a whole: a killed run continues where it stopped, and the quick bench does every part."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from benchmarks.family import pool, run, units
from benchmarks.family.__main__ import main
from benchmarks.family.plan import EFFECTIVE_STEPS, ENTRIES, Plan, Unit
from benchmarks.family.rows import SCORES, per_identity
from benchmarks.family.run import run_bench
from benchmarks.family.store import Store

PLAN = Plan(methods=("class_noun", "hybridbooth", "dreambooth"), identities=3, prompts=2, tune_identities=2)


@pytest.fixture
def made_up(monkeypatch):
    """Units and costs that are functions of what they are asked, without any model. Returns the units measured; `kill_at` stops one."""
    asked = SimpleNamespace(units=[], kill_at=None)

    def measure(plan: Plan, unit: Unit, world, prior) -> dict:
        if len(asked.units) == asked.kill_at:
            raise KeyboardInterrupt
        asked.units.append(unit)
        rate = unit.rate or 0.0
        value = {str(steps): 0.1 * unit.row + rate + steps / 1000 for steps in unit.keep}
        return {"after": {steps: {name: [v] * 4 for name in SCORES} | {"stored_bytes": 10} for steps, v in value.items()}}

    def measure_costs(world, plan: Plan) -> dict:
        one = {"operations": [(3, 3e9), (5, 5e9)], "seconds": [(5, 1.0), (25, 2.0)]}
        return {"methods": dict.fromkeys(plan.methods, one), "class_images_tflop": 0.5, "load_before": 0.0}

    monkeypatch.setattr(units, "measure", measure)
    monkeypatch.setattr(run, "measure_costs", measure_costs)
    monkeypatch.setattr(run, "peak_memory", lambda method, plan: 7)
    monkeypatch.setattr(run, "load_miniature", lambda: None)
    monkeypatch.setattr(pool, "_here", (None, None))
    return asked


def test_a_killed_bench_goes_on_and_ends_the_same(tmp_path, made_up):
    whole = run_bench(PLAN, tmp_path / "whole", tmp_path / "whole.json")
    everything = list(made_up.units)
    assert len(everything) == len(set(everything)) == 2 * (4 + 4) + 3 * (1 + 1 + 2)
    for kill_at in (5, 20):
        made_up.units.clear()
        made_up.kill_at = kill_at
        with pytest.raises(KeyboardInterrupt):
            run_bench(PLAN, tmp_path / f"killed{kill_at}", tmp_path / "killed.json")
        assert not (tmp_path / "killed.json").exists()
        made_up.kill_at = None
        again = run_bench(PLAN, tmp_path / f"killed{kill_at}", tmp_path / "again.json")
        assert made_up.units == everything, "every unit once, in the same order"
        assert again == whole and (tmp_path / "again.json").read_text() == (tmp_path / "whole.json").read_text()


def test_a_finished_bench_measures_nothing_again_but_what_is_asked(tmp_path, made_up):
    run_bench(PLAN, tmp_path, tmp_path / "a.json")
    made_up.units.clear()
    run_bench(PLAN, tmp_path, tmp_path / "b.json")
    assert made_up.units == []
    run_bench(PLAN, tmp_path, tmp_path / "b.json", again=["hybridbooth"])
    assert {unit.method for unit in made_up.units} == {"hybridbooth"} and len(made_up.units) == 2 * 4 + 3


def test_rows_are_what_the_units_say(tmp_path, made_up):
    result = run_bench(PLAN, tmp_path, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads(json.dumps(result))
    rows = {(row["method"], row["steps"]): row for row in result["rows"]}
    assert list(rows) == [
        ("class_noun", 0),
        *(("hybridbooth", s) for s in (3, 5, 10, 25)),
        *(("dreambooth", s) for s in (3, 5, 10, 25, 100, 300)),
    ]
    best = ENTRIES["dreambooth"].rates[-1]  # made-up identity grows with the rate
    row = rows["dreambooth", 300]
    assert row["rate"] == best and row["identity"] == pytest.approx(0.1 + best + 0.3, abs=1e-4)
    head = EFFECTIVE_STEPS["words"][-1]  # the default mode
    assert row["minus_headline"]["identity"]["mean"] == pytest.approx(best + 0.3 - head - 0.01, abs=1e-4)
    assert row["identity_ci95"][0] < row["identity"] < row["identity_ci95"][1]
    assert (row["tflop"], row["seconds"], row["stored_bytes"]) == (0.3, 15.75, 10)
    assert result["choices"]["dreambooth"]["many"] == {"rate": best, "chosen_at_steps": 100, "at_edge": True}
    assert len(result["search"]) == 4 * 2 + 4 * 1


def test_scores_are_means_of_images_then_rows_by_identity():
    records = {Unit("test", "a", None, row, (0,)): {"after": {"0": {"identity": [row, row + 1.0], "stored_bytes": 7}}} for row in (1, 0)}
    found = per_identity(records)["a", 0]
    assert torch.equal(found["identity"], torch.tensor([0.5, 1.5])) and found["stored_bytes"].tolist() == [7, 7]


def test_names_that_are_none_are_refused(tmp_path, refuses):
    assert "costs" in refuses(run_bench, PLAN, tmp_path, tmp_path / "a.json", again=["probe"])


def test_processes_and_one_process_measure_alike(tmp_path):
    plan = Plan(methods=("encoder_only",), identities=2, prompts=1, sampling_steps=2)
    some = [Unit("test", "encoder_only", None, row, (0,)) for row in range(2)]
    here = units.run_units(plan, some, Store(tmp_path / "a"), pool.in_pool(1), "here")
    there = units.run_units(plan, some, Store(tmp_path / "b"), pool.in_pool(2), "there")
    for unit in some:
        a, b = here[unit]["after"]["0"], there[unit]["after"]["0"]
        assert a["stored_bytes"] == b["stored_bytes"] > 0
        assert a["identity"] == pytest.approx(b["identity"], abs=1e-3)


def test_the_quick_bench_does_every_part(tmp_path, capsys):
    pytest.importorskip("diffusers")
    arguments = ["--quick", "--jobs", "1", "--work", str(tmp_path / "work")]
    assert main([*arguments, "--out", str(tmp_path / "family.json")]) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "family.json").read_text())
    assert {row["method"] for row in result["rows"]} == set(ENTRIES) - {"lidb", "hyperdreambooth"}, "which take more steps than it tries"
    assert result["command"] == "python -m benchmarks.family --quick" and result["machine"]["torch"] == torch.__version__
    rows = {(row["method"], row["steps"]): row for row in result["rows"]}
    assert rows["encoder_only", 0]["identity"] > rows["class_noun", 0]["identity"] + 0.3
    assert rows["dreambooth", 5]["stored_bytes"] > 1e7 > 16_000 > rows["hybridbooth", 5]["stored_bytes"] > 1000
    assert rows["dreambooth", 5]["tflop"] > rows["dreambooth", 3]["tflop"] > rows["textual_inversion", 3]["tflop"] > 0
    for row in result["rows"]:
        assert all(-1 <= row[name] <= 1 for name in ("identity", "prompt", "dino_i", "clip_i", "clip_t", "leakage"))
        assert row["seconds"] >= 0 and row["diversity"] > 0
    assert {verdict["met"] for verdict in result["verdicts"]} <= {True, False} and len(result["verdicts"]) == 12
    assert "HybridBooth" in printed and "prompt accuracy at least 0.95" in printed
    assert main([*arguments, "--out", str(tmp_path / "again.json")]) == 0
    assert (tmp_path / "again.json").read_text() == (tmp_path / "family.json").read_text()
