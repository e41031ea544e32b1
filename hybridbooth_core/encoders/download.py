"""Downloads a published encoder at its pinned revision and verifies its hash. Runs only on a user's request.

A stopped download goes on where it stopped. (huggingface_hub, which began anew in 2.x, is not used for this.) Follows its settings
`HF_ENDPOINT` (another hub) and `HF_HUB_OFFLINE` (no network), and the usual variables for proxies.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ..errors import UserError
from ..files.atomic import move
from .catalogue import EncoderFile
from .files import holds

Progress = Callable[[int, int], None]
"""Called several times a second with (bytes done, bytes in total), also while nothing arrives; may raise to stop at once."""
BLOCK = 1 << 20
POLL, STALL = 0.1, 30.0  # seconds between two calls of `progress`, and without a byte before giving up
AGENT = "hybridbooth"


def download_encoder(entry: EncoderFile, folder: Path, progress: Progress | None = None) -> Path:
    """Downloads an encoder's file into a folder, creating the folder if needed, and returns its path.

    Returns an existing file without using the network. What has arrived of a stopped or failed download lies in a hidden file beside it,
    from which the next call goes on.

    Raises:
        UserError: the hub cannot be reached or does not have the file, the hash is wrong, the disk is full, the folder cannot be written
            or contains another file of that name. Exceptions of `progress` propagate.
    """
    path = folder / entry.saved_as
    if path.exists():
        if holds(path, entry):
            return path
        raise UserError(f"{path} exists but is not {entry.label}; rename that file, then download again")
    partial = folder / f".{entry.saved_as}.part"
    by_hand = f"or download {entry.address} yourself and save it in {folder} under any name"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise UserError(f"{entry.label} was not found, and HF_HUB_OFFLINE forbids downloading it; unset HF_HUB_OFFLINE, {by_hand}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = partial.stat().st_size if partial.exists() else 0
        free = shutil.disk_usage(folder).free
        if free < entry.size - there:
            raise UserError(f"{entry.label} needs {_gigabytes(entry.size)}, but {folder} has {_gigabytes(free)} free; free some space")
        partial.touch()
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be written ({error.strerror or error}); choose another models folder") from error
    transfer = _Transfer(entry, partial)
    transfer.start()
    try:
        running = True
        while running:
            transfer.join(POLL)
            running = transfer.is_alive()
            if progress:
                progress(min(transfer.done, entry.size), entry.size)
    finally:
        transfer.stop()
    if transfer.error is not None:
        if not transfer.done:
            partial.unlink(missing_ok=True)
        kept = f"; the {_gigabytes(transfer.done)} that arrived are kept" if transfer.done else ""
        raise UserError(f"{entry.label} was not downloaded: {_reason(transfer.error)}{kept}; try again, {by_hand}") from transfer.error
    try:
        _check(partial, entry)
        move(partial, path)
    except OSError as error:
        raise UserError(f"{entry.label} cannot be written to {path} ({error.strerror or error}); free some space") from error
    return path


class _Transfer(threading.Thread):
    """Appends what is missing to a file, in a thread of its own: a network that stalls cannot be interrupted, but left behind."""

    def __init__(self, entry: EncoderFile, path: Path):
        super().__init__(daemon=True)
        self.entry, self.path = entry, path
        self.done = path.stat().st_size
        self.error: Exception | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Nothing is written any more."""
        self._stopped.set()

    def run(self) -> None:
        try:
            if self.done < self.entry.size:
                self._transfer()
        except Exception as error:  # handed to the caller's thread
            self.error = error

    def _transfer(self) -> None:
        headers = {"User-Agent": AGENT, **({"Range": f"bytes={self.done}-"} if self.done else {})}
        with urllib.request.urlopen(urllib.request.Request(self.entry.address, headers=headers), timeout=STALL) as answer:
            continues = answer.status == 206  # a server may send the whole file in spite of the range
            self.done = self.done if continues else 0
            with self.path.open("ab" if continues else "wb") as file:
                while not self._stopped.is_set() and (block := answer.read1(BLOCK)):
                    if self._stopped.is_set():
                        return
                    file.write(block)
                    self.done += len(block)
        if not self._stopped.is_set() and self.done < self.entry.size:
            raise ConnectionError("the connection ended early")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return "the hub does not have it" if error.code in (401, 403, 404) else f"the hub answers {error.code}"
    if isinstance(error, urllib.error.URLError):
        return "the hub cannot be reached"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _check(path: Path, entry: EncoderFile) -> None:
    """UserError, and the file is deleted, unless it has the published size and hash."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    if size == entry.size and digest.hexdigest() == entry.sha256:
        return
    path.unlink()
    if size != entry.size:
        raise UserError(f"expected {entry.size} bytes of {entry.label}, found {size} bytes; the download was deleted, try again")
    raise UserError(
        f"expected sha256 {entry.sha256[:16]}... of {entry.label}, found {digest.hexdigest()[:16]}...; the download was deleted: try "
        "again, and if it fails again, do not trust this source"
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
