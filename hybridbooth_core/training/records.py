"""What a training writes down: one JSON object a line, always; TensorBoard where it is installed; a progress bar."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

CURVE = "curve.jsonl"


class Records:
    """The curve of a run. Rows have a `step`; a run that goes on from step s forgets what a killed one wrote after s."""

    def __init__(self, folder: Path, step: int = 0):
        self.path = folder / CURVE
        if self.path.exists():
            _keep_until(self.path, step)
        self._board = _tensorboard(folder, step)

    def write(self, row: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._board:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(name, value, row["step"])

    def close(self) -> None:
        if self._board:
            self._board.close()


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


def _keep_until(path: Path, step: int) -> None:
    rows = [row for row in read_curve(path.parent) if row["step"] <= step]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    os.replace(partial, path)


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
