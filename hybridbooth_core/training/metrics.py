"""What a training writes down: one JSON object a line, always; TensorBoard where it is installed; and how fast it is."""

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
from .checkpoint import writing

CURVE = "curve.jsonl"

log = logging.getLogger("hybridbooth")


class MetricsLogger:
    """The curve of a run. Rows have a `step`; a run that goes on from step s forgets what a killed one wrote after s."""

    def __init__(self, folder: Path, step: int = 0):
        """UserError if the disk refuses."""
        self.path = folder / CURVE
        if self.path.exists():
            with writing(folder):
                rows = [row for row in read_curve(folder) if row["step"] <= step]
                write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in rows), durable=True)
        self._board = _tensorboard(folder, step)

    def write(self, row: dict[str, Any]) -> None:
        """One line, down to the disk; numbers that are not finite become null, which every reader of JSON knows.

        Raises:
            UserError: the disk refuses.
        """
        row = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        with writing(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            fsync(file)
        if self._board:
            self._show(self._board, row)

    def close(self) -> None:
        if self._board:
            try:
                self._board.close()
            except OSError as error:
                log.warning("TensorBoard's file is not complete (%s); %s is", error.strerror, self.path.name)

    def _show(self, grid: Any, row: dict[str, Any]) -> None:
        try:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "step":
                    grid.add_scalar(name, value, row["step"])
        except OSError as error:
            log.warning("TensorBoard's file cannot be written (%s); %s goes on without it", error.strerror, self.path.name)
            self._board = None


class Throughput:
    """Samples a second, the share of the time spent waiting for data, and memory, since the last row."""

    def __init__(self, batch: int, device: torch.device):
        self._batch, self._peak = batch, watch_peak(device)
        self._since, self._step, self._waited, self._paused = time.perf_counter(), None, 0.0, False

    def pause(self) -> None:
        """What was done since the last row was no training: it does not count."""
        self._paused = True

    def row(self, step: int, waited: float) -> dict[str, float]:
        """What is to be written down at a step; `waited`: seconds spent waiting for data since the beginning."""
        now = time.perf_counter()
        spent, steps = now - self._since, step - (self._step or 0)
        row = {}
        if self._step is not None and not self._paused:
            row = {"samples_per_second": steps * self._batch / spent, "waiting": min((waited - self._waited) / spent, 1.0)}
        self._since, self._step, self._waited, self._paused = now, step, waited, False
        use = self._peak()
        return {**row, **({"memory_gb": use.total / 1e9} if use else {})}


def read_curve(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run; a line that a kill cut short is left out."""
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


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    try:
        return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
    except OSError as error:
        log.warning("TensorBoard's file cannot be written (%s); %s goes on without it", error.strerror, CURVE)
        return None
