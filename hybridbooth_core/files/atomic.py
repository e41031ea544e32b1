"""Files that are whole or not there: they are written beside their place, hidden, and then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def atomic(path: Path, durable: bool = False) -> Iterator[BinaryIO]:
    """A new file that gets the name `path`, in place of any older file, when the block ends without an exception.

    Otherwise the older file stays and nothing else remains; only a killed process leaves `.<name>.<random>.partial` behind. Several
    processes may write one path at the same time: each file is whole, and the last one stays.

    Args:
        durable: returns only when file and name are on the disk, so that a loss of power cannot undo it.
    Raises:
        OSError: the disk refuses.
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
    """A file with this content, text as UTF-8; see `atomic`."""
    with atomic(path, durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def move(partial: Path, path: Path, durable: bool = False) -> None:
    """Give a finished file its name, in place of any older file. OSError if the disk refuses."""
    os.replace(partial, path)
    if durable:
        fsync_folder(path.parent)


def remove_partials(folder: Path) -> None:
    """Remove what killed processes left behind, from a folder that nobody else writes to now. OSError if the disk refuses."""
    for partial in folder.glob("*.partial"):
        partial.unlink()


def fsync(file: Any) -> None:
    """Returns when the content of an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Returns when the names of a folder's files are on the disk; Windows cannot do that."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
