"""The benchmark of training, tried at tiny sizes: every row can be measured, and two processes lose what one loses."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from benchmarks import train_probe as bench

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows() -> dict[str, dict]:
    """Every row but that of several processes, in this process."""
    return {name: row(bench.new_setting(CPU, True, 1)) for name, (_, row) in bench.ROWS.items()}


def test_every_row_is_measured(rows):
    for name, row in rows.items():
        if name.startswith("data"):
            assert row["samples_per_second"]["median"] > 0
            continue
        assert row["ratio_to_bare"] > 0 and row["tflop"] > 0 and row["floor_fraction"] > 0, name
        assert 0 <= row["waiting_for_data"] <= 1 and row["hours_for_640k_samples"] > 0
        assert row["peak_memory_gb"]["estimate"] > 0


def test_operations_are_those_of_the_work(rows):
    """No time enters here, so these hold on any machine."""
    count = {name: row["tflop"] for name, row in rows.items() if "tflop" in row}
    assert count["consumer"] < count["consumer_checkpointed"] < 2 * count["consumer"]
    assert count["consumer"] < count["promptnet"] < count["promptnet_checkpointed"]
    assert rows["consumer"]["parameters"] != rows["promptnet"]["parameters"]


def test_verdicts_compare_with_the_aims():
    rows = {"consumer": {"floor_fraction": 0.4, "waiting_for_data": 0.05, "hours_for_640k_samples": 9.0}}
    met = {verdict["what"].split(",")[0]: (verdict["least_met"], verdict["aim_met"]) for verdict in bench.verdicts(rows, "cpu")}
    assert met == {"floor_fraction of a training step": (True, False), "share of the time waiting for data": (True, False)}
    assert any("hours" in verdict["what"] and not verdict["least_met"] for verdict in bench.verdicts(rows, "cuda"))


def test_a_measurement_is_stored_and_two_processes_lose_what_one_loses(tmp_path, monkeypatch, capsys):
    out = tmp_path / "trial.json"
    monkeypatch.setattr(
        sys, "argv", ["train_probe.py", "--quick", "--out", str(out), "--only", "scaling", "--repeats", "1", "--threads", "1"]
    )
    bench.main()
    capsys.readouterr()
    row = json.loads(out.read_text())["rows"]["scaling"]
    assert (row["one"]["processes"], row["two"]["processes"]) == (1, 2), row
    assert row["losses_differ_by"] < 1e-5 and row["speedup"] > 0
