"""Logs the metrics of a training as JSON lines and, if it is installed, to TensorBoard."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import torch

from ..files.atomic import fsync, write_atomic
from ..models.peak_memory import watch_peak
from .checkpoint import disk_errors

CURVE = "curve.jsonl"

log = logging.getLogger("hybridbooth")


class MetricsLogger:
    """The training curve of a run. Each row has a `step`; rows after the step that a run resumes from are deleted."""

    def __init__(self, folder: Path, step: int = 0):
        """UserError if the folder cannot be written."""
        self.path = folder / CURVE
        if self.path.exists():
            with disk_errors(folder):
                rows = [row for row in read_curve(folder) if row["step"] <= step]
                write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in rows), durable=True)
        self._tensorboard = _open_tensorboard(folder, step)

    def write(self, row: dict[str, Any]) -> None:
        """Append one row and fsync it. Values that are not finite become null, since JSON has no NaN.

        Raises:
            UserError: the file cannot be written.
        """
        row = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        with disk_errors(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            fsync(file)
        if self._tensorboard:
            self._show(self._tensorboard, row)

    def close(self) -> None:
        if self._tensorboard:
            try:
                self._tensorboard.close()
            except OSError as error:
                log.warning("the TensorBoard file is incomplete (%s); %s is complete", error.strerror, self.path.name)

    def _show(self, writer: Any, row: dict[str, Any]) -> None:
        try:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "step":
                    writer.add_scalar(name, value, row["step"])
        except OSError as error:
            log.warning("the TensorBoard file cannot be written (%s); logging to %s only", error.strerror, self.path.name)
            self._tensorboard = None


class Throughput:
    """Samples per second, fraction of time spent waiting for data, and peak memory, since the last row."""

    def __init__(self, batch: int, device: torch.device):
        self._batch, self._peak = batch, watch_peak(device)
        self._since, self._step, self._waited, self._paused = time.perf_counter(), None, 0.0, False

    def pause(self) -> None:
        """Call after validation or saving: the time since the last row is not counted."""
        self._paused = True

    def row(self, step: int, waited: float) -> dict[str, float]:
        """Metrics at a step. `waited`: total seconds spent waiting for data."""
        now = time.perf_counter()
        spent, steps = now - self._since, step - (self._step or 0)
        row = {}
        if self._step is not None and not self._paused:
            row = {"samples_per_second": steps * self._batch / spent, "waiting": min((waited - self._waited) / spent, 1.0)}
        self._since, self._step, self._waited, self._paused = now, step, waited, False
        use = self._peak()
        return {**row, **({"memory_gb": use.total / 1e9} if use else {})}


def read_curve(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's training curve, without a line that a kill cut off."""
    rows = []
    path = folder / CURVE
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _open_tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    try:
        return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
    except OSError as error:
        log.warning("the TensorBoard file cannot be written (%s); logging to %s only", error.strerror, CURVE)
        return None
