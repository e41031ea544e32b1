"""Downloads a published encoder at its pinned revision and verifies its hash. Runs only on a user's request.

Follows huggingface_hub's settings `HF_ENDPOINT` (another hub) and `HF_HUB_OFFLINE` (no network).
"""

from __future__ import annotations

import errno
import hashlib
import inspect
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files.atomic import move
from .catalogue import EncoderFile, hub_address
from .files import holds

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in total); may raise to stop."""
BLOCK = 1 << 20


def download_encoder(entry: EncoderFile, folder: Path, progress: Progress | None = None) -> Path:
    """Downloads an encoder's file into a folder, creating the folder if needed, and returns its path.

    Returns an existing file without using the network. A failed download leaves no partial file.

    Raises:
        UserError: the hub cannot be reached or does not have the file, the hash is wrong, the disk is full, the folder cannot be written
            or contains another file of that name. Exceptions of `progress` propagate.
    """
    path = folder / entry.saved_as
    if path.exists():
        if holds(path, entry):
            return path
        raise UserError(f"{path} exists but is not {entry.label}; rename that file, then download again")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < entry.size:
            raise UserError(f"{entry.label} needs {_gigabytes(entry.size)}, but {folder} has {_gigabytes(free)} free; free some space")
        partial = Path(tempfile.mkdtemp(prefix=".download-", dir=folder))
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be written ({error.strerror or error}); choose another models folder") from error
    try:
        found = _fetch(entry, partial, progress)
        _check(found, entry)
        move(found, path)
    except OSError as error:
        raise UserError(f"{entry.label} cannot be written to {path} ({error.strerror or error}); free some space") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _fetch(entry: EncoderFile, folder: Path, progress: Progress | None) -> Path:
    """Downloads the file into an empty folder, without verifying it."""
    by_hand = f"or download {entry.address} yourself and save it in {folder.parent} under any name"
    try:
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError as error:
        raise UserError(f"downloads need huggingface_hub, which is not installed; run: pip install huggingface_hub, {by_hand}") from error
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"{entry.label} was not found, and HF_HUB_OFFLINE forbids downloading it; unset HF_HUB_OFFLINE, {by_hand}")
    stopped: list[BaseException] = []
    options: dict[str, Any] = {"local_dir": folder, "endpoint": hub_address()}
    if progress and "tqdm_class" in inspect.signature(hf_hub_download).parameters:  # hub 1.0 and later
        options["tqdm_class"] = _bar(progress, entry.size, stopped)
    try:
        found = Path(hf_hub_download(entry.id, entry.filename, revision=entry.revision, **options))
    except Exception as error:  # the exceptions differ by version of huggingface_hub and of its network library
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
    if stopped:  # the hub's fast transfer (hf_xet) swallows exceptions of its progress bar
        raise stopped[0]
    return found


def _check(path: Path, entry: EncoderFile) -> None:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    if size != entry.size:
        raise UserError(f"expected {entry.size} bytes of {entry.label}, found {size} bytes; the download was deleted, try again")
    if digest.hexdigest() != entry.sha256:
        raise UserError(
            f"expected sha256 {entry.sha256[:16]}... of {entry.label}, found {digest.hexdigest()[:16]}...; the download was deleted: try "
            "again, and if it fails again, do not trust this source"
        )


def _bar(progress: Progress, size: int, stopped: list[BaseException]) -> type:
    """A tqdm class that also calls `progress` and stores its exceptions in `stopped`."""
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
