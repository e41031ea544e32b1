"""Finds encoder files on this machine by their contents, under any file name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..errors import UserError
from ..files.safetensors import read_header
from .catalogue import EncoderFile

MAX_BYTES = 4 << 30


def holds(path: Path, entry: EncoderFile, needs: Collection[str] = ()) -> bool:
    """Whether a file contains this encoder and the tensors `needs`. Reads only its header."""
    try:
        header, _ = read_header(path, "encoder", MAX_BYTES)
    except UserError:
        return False
    matches = all(name in header and tuple(header[name]["shape"]) == shape for name, shape in entry.signature.items())
    return matches and all(name in header for name in needs)


def find_encoder(entry: EncoderFile, folders: Sequence[Path], needs: Collection[str] = ()) -> Path | None:
    """The first file in these folders and their subfolders that contains the encoder and the tensors `needs`, or None."""
    return next((path for path in _files(folders) if holds(path, entry, needs)), None)


def require_encoder(entry: EncoderFile, folders: Sequence[Path], needs: Collection[str] = ()) -> Path:
    """Like `find_encoder`, but raises a UserError if there is no such file. The message says how to get it."""
    path = find_encoder(entry, folders, needs)
    if path is None:
        searched = ", ".join(map(str, folders)) or "no folder"
        raise UserError(
            f"{entry.label} was not found in {searched}; run the node Download Encoders, or save {entry.address} there under any name"
        )
    return path


def describe(entry: EncoderFile, folders: Sequence[Path]) -> str:
    """One line for users: the encoder, its licence, and where its file is or how large the download is."""
    path = find_encoder(entry, folders, entry.whole)
    place = f"not downloaded, {entry.size / 1e9:.2f} GB" if path is None else f"found: {path.parent.name}/{path.name}"
    return f"{entry.label} ({entry.licence}): {place}"


def _files(folders: Sequence[Path]) -> Iterator[Path]:
    """All `.safetensors` files in a fixed order, without loops of links and without hidden folders, which hold unfinished downloads."""
    visited = set()
    for folder in folders:
        for place, inner, names in os.walk(folder, followlinks=True):
            real = os.path.realpath(place)
            inner[:] = [] if real in visited else sorted(name for name in inner if not name.startswith("."))
            if real not in visited:
                yield from (Path(place, name) for name in sorted(names) if name.lower().endswith(".safetensors"))
            visited.add(real)
