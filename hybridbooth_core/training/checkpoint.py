"""Checkpoints that a kill at any moment leaves whole: written beside their place, down to the disk, and renamed."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import torch

from ..data.shards import settle_folder
from ..errors import UserError

FORMAT, VERSION = "hybridbooth.training", 1
_NAME = re.compile(r"step-(\d{8})\.ckpt")

log = logging.getLogger("hybridbooth")


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.ckpt"


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of the checkpoints in a folder, the newest first."""
    found = [(int(match[1]), path) for path in folder.glob("step-*.ckpt") if (match := _NAME.fullmatch(path.name))]
    return sorted(found, reverse=True)


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write the state after `step` steps and drop all but the newest `keep` checkpoints.

    Raises:
        UserError: the disk is full or refuses; earlier checkpoints stay as they are and nothing half-written remains.
    """
    path = checkpoint_path(folder, step)
    partial = path.with_suffix(".partial")
    try:
        for left in folder.glob("step-*.partial"):  # of a run that was killed while it wrote
            left.unlink()
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, "version": VERSION, "step": step, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        settle_folder(folder)
    except (OSError, RuntimeError) as error:  # torch's zip writer says RuntimeError where the disk says that it is full
        partial.unlink(missing_ok=True)
        last = checkpoints(folder)
        kept = f"the last good state is {last[0][1].name}" if last else "no state was saved before"
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0][:120]
        raise UserError(f"{path} cannot be written ({reason}); {kept}: make room and go on with --resume") from error
    for _, old in checkpoints(folder)[keep:]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The newest state that can be read, None where there is no checkpoint. Weights only: nothing in a file is executed.

    Raises:
        UserError: there are checkpoints, and none can be read.
    """
    found = checkpoints(folder)
    for _, path in found:
        try:
            state = torch.load(path, map_location=device, weights_only=True)
            if not isinstance(state, dict) or state.get("format") != FORMAT:
                raise ValueError("no checkpoint of a training")
        except Exception as error:  # torch says a dozen different things of a damaged file
            log.warning("%s cannot be read (%s); looking for the one before it", path.name, str(error).splitlines()[0][:120])
            continue
        if state["version"] != VERSION:
            raise UserError(
                f"{path} has the version {state['version']}, this one reads {VERSION}; finish it with the version that began it"
            )
        return state
    if found:
        raise UserError(f"none of the {len(found)} checkpoints in {folder} can be read; start anew in another folder")
    return None
