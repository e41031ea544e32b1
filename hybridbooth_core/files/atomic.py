"""Atomic writes: a hidden temporary file in the same folder, which is then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def atomic(path: Path, durable: bool = False) -> Iterator[BinaryIO]:
    """Opens a new binary file that replaces `path` when the block ends without an exception.

    After an exception, an existing file is unchanged and the temporary file is deleted; a killed process leaves
    `.<name>.<random>.partial`. Several processes may write the same path at once: the last complete file remains.

    Args:
        durable: fsync the file and its folder, so that the write survives a power failure.
    Raises:
        OSError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            yield file
            if durable:
                fsync(file)
        move(partial, path, durable)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes | str, durable: bool = False) -> None:
    """Writes a file atomically, text as UTF-8; see `atomic`."""
    with atomic(path, durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def move(partial: Path, path: Path, durable: bool = False) -> None:
    """Renames a complete file to `path`, replacing any existing file; `durable` also fsyncs the folder."""
    os.replace(partial, path)
    if durable:
        fsync_folder(path.parent)


def remove_partials(folder: Path) -> None:
    """Deletes the temporary files of killed processes. Call it only for a folder that no other process writes to."""
    for partial in folder.glob("*.partial"):
        partial.unlink()


def fsync(file: Any) -> None:
    """Flushes an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Flushes a folder's entries to the disk; does nothing on Windows, which cannot."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
