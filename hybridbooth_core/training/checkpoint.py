"""Checkpoints that a kill at any moment leaves whole: written beside their place, down to the disk, and renamed."""

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
    """(step, path) of the checkpoints in a folder, the newest first."""
    found = [(int(match[1]), path) for path in folder.glob("step-*.ckpt") if (match := _NAME.fullmatch(path.name))]
    return sorted(found, reverse=True)


def refuse_begun(folder: Path) -> None:
    """UserError if there are checkpoints in a folder that a new training is to have."""
    if found := checkpoints(folder):
        raise UserError(f"{folder} holds a training already ({found[0][1].name}); go on with --resume {folder}, or choose another --out")


def last_good(folder: Path) -> str:
    """What a message says of the newest checkpoint."""
    found = checkpoints(folder)
    return f"the last good state is {found[0][1].name}" if found else "no state was saved yet"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """UserError for whatever the disk refuses within."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}); {last_good(folder)}: make room and go on with --resume"
        ) from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder and keep other trainings out of it while this is open. The system lets go of it however the process ends.

    Raises:
        UserError: another training is at work there, or the disk refuses.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another training is at work in {folder}; wait for its end, or choose another --out") from error
    except (OSError, NotImplementedError) as error:  # some network drives know no locks; what cannot be written at all is told later
        log.warning("%s cannot be locked (%s); see to it that no other training works there", folder, error)
    try:
        yield
    finally:
        lock.release()


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write the state after `step` steps and drop all but the newest `keep` checkpoints up to it.

    Raises:
        UserError: the disk is full or refuses; earlier checkpoints stay as they are and nothing half-written remains.
    """
    path = checkpoint_path(folder, step)
    with writing(folder):
        remove_partials(folder)
        with atomic(path, durable=True) as file:
            _write(state | {"format": FORMAT, "version": VERSION, "step": step}, file)
    # A later one can only be one that could not be read, since training went on before it: it must not push out a good one.
    for _, old in [(number, old) for number, old in checkpoints(folder) if number <= step][keep:]:
        try:
            old.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s is no longer needed and cannot be removed (%s)", old, error.strerror)
    return path


def _write(state: dict[str, Any], file: Any) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:  # torch's zip writer cannot end a file that the disk refused, and says that instead
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest state that can be read, on the CPU; None where there is no checkpoint. Weights only: nothing in a file is executed.

    Raises:
        UserError: there are checkpoints, and none can be read; or another version wrote the newest.
    """
    found = checkpoints(folder)
    for _, path in found:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or state.get("format") != FORMAT:
                raise ValueError("no checkpoint of a training")
        except Exception as error:  # torch says a dozen different things of a damaged file
            reason = (str(error) or type(error).__name__).splitlines()[0][:120]
            log.warning("%s cannot be read (%s); looking for the one before it", path.name, reason)
            continue
        if state.get("version") != VERSION:
            raise UserError(
                f"{path} has the version {state.get('version')}, this one reads {VERSION}; finish it with the version that began it"
            )
        return state
    if found:
        raise UserError(f"none of the {len(found)} checkpoints in {folder} can be read; start anew in another folder")
    return None
