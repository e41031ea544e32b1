"""Fetching a published encoder: the pinned revision, checked by its hash before it gets its name. Nothing here runs unless a person asks.

`HF_ENDPOINT` names another hub to ask, `HF_HUB_OFFLINE` forbids asking; both are settings of the package huggingface_hub.
"""

from __future__ import annotations

import errno
import hashlib
import inspect
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError
from .catalogue import EncoderFile, hub_address
from .files import holds

Progress = Callable[[int, int], None]
"""Is told bytes done and bytes in all, and may raise to stop."""
BLOCK = 1 << 20


def download_encoder(entry: EncoderFile, folder: Path, progress: Progress | None = None) -> Path:
    """Put an encoder's file into a folder, which is made if it is not there; a file that is there is returned, and the network not asked.

    Whatever goes wrong, no half of a file remains.

    Raises:
        UserError: the hub cannot be reached or does not have the file, what came is not the pinned file, there is no room, the folder
            cannot be written, or holds another file of that name. What `progress` raises passes through.
    """
    path = folder / entry.saved_as
    if path.exists():
        if holds(path, entry):
            return path
        raise UserError(f"{path} is there already and is no {entry.label}; give that file another name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < entry.size:
            raise UserError(f"{entry.label} needs {_gigabytes(entry.size)}, but {folder} has {_gigabytes(free)} left; make room there")
        partial = Path(tempfile.mkdtemp(prefix=".download-", dir=folder))
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be written ({error.strerror or error}); choose another models folder") from error
    try:
        found = _fetch(entry, partial, progress)
        _check(found, entry)
        os.replace(found, path)
    except OSError as error:
        raise UserError(f"{entry.label} cannot be written to {path} ({error.strerror or error}); make room there") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _fetch(entry: EncoderFile, folder: Path, progress: Progress | None) -> Path:
    """The file from the hub, not yet checked, somewhere in an empty folder."""
    by_hand = f"or get {entry.address} yourself and put it into {folder.parent} under any name"
    try:
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError as error:
        raise UserError(f"downloads need huggingface_hub, which is not installed; run: pip install huggingface_hub, {by_hand}") from error
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"{entry.label} is not here, and HF_HUB_OFFLINE forbids the network; unset it, {by_hand}")
    stopped: list[BaseException] = []
    options: dict[str, Any] = {"local_dir": folder, "endpoint": hub_address()}
    if progress and "tqdm_class" in inspect.signature(hf_hub_download).parameters:  # hub 1.0 and later
        options["tqdm_class"] = _bar(progress, entry.size, stopped)
    try:
        found = Path(hf_hub_download(entry.id, entry.filename, revision=entry.revision, **options))
    except Exception as error:  # each version of the hub has its own, down to its network library's
        if stopped:
            raise stopped[0] from None
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if isinstance(error, LocalEntryNotFoundError):
            reason = "the hub cannot be reached"
        elif isinstance(error, EntryNotFoundError | RepositoryNotFoundError | RevisionNotFoundError):
            reason = "the hub does not have it"
        else:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"{entry.label} was not downloaded: {reason}; try again, {by_hand}") from error
    if stopped:  # a faster transfer of the hub does not hand on what its progress raises
        raise stopped[0]
    return found


def _check(path: Path, entry: EncoderFile) -> None:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    if size != entry.size:
        raise UserError(f"{entry.label} came with {size} bytes, not {entry.size}; it was thrown away, try again")
    if digest.hexdigest() != entry.sha256:
        raise UserError(
            f"{entry.label} came with the sha256 {digest.hexdigest()[:16]}..., not {entry.sha256[:16]}...; it was thrown away: try again, "
            "and if that repeats, do not trust where it came from"
        )


def _bar(progress: Progress, size: int, stopped: list[BaseException]) -> type:
    """A progress bar of the hub's kind that also tells `progress`, and keeps what that raises."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        done = 0

        def update(self, n: float | None = 1) -> bool | None:
            self.done += int(n or 0)
            try:
                progress(min(self.done, size), size)
            except BaseException as error:
                stopped.append(error)
                raise
            return super().update(n)

    return Bar


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
