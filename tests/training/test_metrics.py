"""What is written down, and how fast a training is."""

from __future__ import annotations

import json
import logging
import math
from types import SimpleNamespace

import pytest
import torch

from hybridbooth_core.training import metrics as records
from hybridbooth_core.training.metrics import MetricsLogger, Throughput, read_curve


def write(folder, steps, start=0, **more):
    one = MetricsLogger(folder, start)
    for step in steps:
        one.write({"step": step, "loss": step / 7, **more})
    one.close()


def test_rows_come_back_to_the_last_bit(tmp_path):
    write(tmp_path, range(1, 6), validation=0.1 + 0.2, said="go on")
    rows = read_curve(tmp_path)
    assert rows == [{"step": step, "loss": step / 7, "validation": 0.1 + 0.2, "said": "go on"} for step in range(1, 6)]
    assert read_curve(tmp_path / "nowhere") == []


def test_going_on_forgets_what_came_after(tmp_path):
    write(tmp_path, range(1, 6))
    with (tmp_path / "curve.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # where a kill cut it short
    write(tmp_path, [4], start=3)
    assert [row["step"] for row in read_curve(tmp_path)] == [1, 2, 3, 4]
    write(tmp_path, [1], start=0)
    assert [row["step"] for row in read_curve(tmp_path)] == [1]
    assert not list(tmp_path.glob("*.partial"))


def test_lines_that_are_no_rows_are_left_out(tmp_path):
    (tmp_path / "curve.jsonl").write_text('{"step": 1}\n[1]\n{"loss": 2}\nnothing\n{"step": 2}\n')
    assert read_curve(tmp_path) == [{"step": 1}, {"step": 2}]


def test_what_is_not_finite_is_null(tmp_path):
    one = MetricsLogger(tmp_path)
    one.write({"step": 1, "loss": math.nan, "grad_norm": math.inf, "rate": 1.0})
    one.close()

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    row = json.loads((tmp_path / "curve.jsonl").read_text(), parse_constant=refuse)
    assert row == {"step": 1, "loss": None, "grad_norm": None, "rate": 1.0}


def test_a_full_disk_is_one_sentence(tmp_path, refuses, monkeypatch):
    one = MetricsLogger(tmp_path)

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "fsync", full)
    assert "No space left" in refuses(one.write, {"step": 1})
    one.close()


def test_tensorboard_shows_each_step_once_after_a_run_that_was_killed(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    killed = MetricsLogger(tmp_path, 0)
    for step in range(1, 6):
        killed.write({"step": step, "loss": 1.0, "said": "text"})
    killed._tensorboard.flush()  # it is never closed
    write(tmp_path, range(4, 8), start=3)
    shown = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert shown.Tags()["scalars"] == ["loss"]
    found = [(event.step, event.value) for event in shown.Scalars("loss")]
    expected = [(1, 1.0), (2, 1.0), (3, 1.0), *((step, pytest.approx(step / 7)) for step in range(4, 8))]
    assert found == expected
    killed.close()


def test_without_tensorboard_the_curve_is_written_all_the_same(tmp_path, monkeypatch, caplog):
    def broken(*_, **__):
        raise OSError(28, "No space left on device")

    one = MetricsLogger(tmp_path)
    one._tensorboard = SimpleNamespace(add_scalar=broken, close=broken)
    with caplog.at_level(logging.WARNING, "hybridbooth"):
        for step in (1, 2):
            one.write({"step": step, "loss": 0.5})
        one.close()
    assert caplog.text.count("TensorBoard file cannot be written") == 1 and len(read_curve(tmp_path)) == 2
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    assert MetricsLogger(tmp_path)._tensorboard is None


def test_the_meter_counts_samples_and_waiting_since_the_last_row(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(records.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(records, "watch_peak", lambda device: lambda: SimpleNamespace(total=3e9, grown=0))
    meter = Throughput(8, torch.device("cpu"))
    now[0] = 103.0
    assert meter.row(10, 1.0) == {"memory_gb": 3.0}, "the first steps tell nothing"
    now[0] = 113.0
    assert meter.row(30, 3.0) == {"samples_per_second": 16.0, "waiting": 0.2, "memory_gb": 3.0}
    meter.pause()
    now[0] = 200.0
    assert meter.row(40, 3.0) == {"memory_gb": 3.0}, "other work was done in between"
    now[0] = 202.0
    assert meter.row(41, 3.5)["samples_per_second"] == 4.0
