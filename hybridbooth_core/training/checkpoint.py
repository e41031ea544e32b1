"""Checkpoints of a run folder. They are written atomically, so a kill at any moment leaves the previous ones intact."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ..errors import UserError
from ..files.atomic import atomic, remove_partials

FORMAT, VERSION = "hybridbooth.training", 1
LOCK = ".lock"
_NAME = re.compile(r"step-(\d{8})\.ckpt")

log = logging.getLogger("hybridbooth")


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.ckpt"


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of the checkpoints in a folder, newest first."""
    found = [(int(match[1]), path) for path in folder.glob("step-*.ckpt") if (match := _NAME.fullmatch(path.name))]
    return sorted(found, reverse=True)


def refuse_existing_run(folder: Path) -> None:
    """UserError if the folder for a new training contains checkpoints."""
    if found := checkpoints(folder):
        raise UserError(f"{folder} already contains a training ({found[0][1].name}); continue with --resume {folder}, or change --out")


def describe_last(folder: Path) -> str:
    """The newest checkpoint, for messages."""
    found = checkpoints(folder)
    return f"the last checkpoint is {found[0][1].name}" if found else "there is no checkpoint yet"


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns any OSError inside the block into a UserError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{folder} cannot be written ({reason}); {describe_last(folder)}: free some space and use --resume") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Creates a folder and locks it against other trainings. The system releases the lock however the process ends.

    Raises:
        UserError: another training uses the folder, or it cannot be written.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another training is running in {folder}; wait until it ends, or choose another --out") from error
    except (OSError, NotImplementedError) as error:  # some network drives have no locks; an unwritable folder fails later
        log.warning("%s cannot be locked (%s); make sure that no other training runs there", folder, error)
    try:
        yield
    finally:
        lock.release()


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Writes the state after `step` steps and deletes all but the newest `keep` checkpoints up to it.

    Raises:
        UserError: the file cannot be written. Earlier checkpoints remain, and no partial file.
    """
    path = checkpoint_path(folder, step)
    with disk_errors(folder):
        remove_partials(folder)
        with atomic(path, durable=True) as file:
            _write(state | {"format": FORMAT, "version": VERSION, "step": step}, file)
    # Later checkpoints, if any, could not be read (training resumed before them), so they must not displace good ones.
    for _, old in [(number, old) for number, old in checkpoints(folder) if number <= step][keep:]:
        try:
            old.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the old checkpoint %s cannot be deleted (%s)", old, error.strerror)
    return path


def _write(state: dict[str, Any], file: Any) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:  # torch's zip writer fails again when it closes the file, and hides the OSError
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest readable state, on the CPU; None if there is no checkpoint. Loaded with `weights_only`, so files cannot run code.

    Raises:
        UserError: no checkpoint can be read, or the newest has another format version.
    """
    found = checkpoints(folder)
    for _, path in found:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or state.get("format") != FORMAT:
                raise ValueError("not a training checkpoint")
        except Exception as error:  # torch raises many types for damaged files
            reason = (str(error) or type(error).__name__).splitlines()[0][:120]
            log.warning("%s cannot be read (%s); trying the one before it", path.name, reason)
            continue
        if state.get("version") != VERSION:
            raise UserError(
                f"{path} has format version {state.get('version')}, expected {VERSION}; finish it with the version that started it"
            )
        return state
    if found:
        raise UserError(f"none of the {len(found)} checkpoints in {folder} can be read; start again in another folder")
    return None
