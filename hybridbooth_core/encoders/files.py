"""Encoder files that are on this machine already: known by what they hold, not by their names."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..errors import UserError
from ..files.safetensors import read_header
from .catalogue import EncoderFile

MAX_BYTES = 4 << 30


def holds(path: Path, entry: EncoderFile, needs: Collection[str] = ()) -> bool:
    """Whether a file is an encoder's, and has the tensors `needs` as well; told from its header alone."""
    try:
        header, _ = read_header(path, "encoder", MAX_BYTES)
    except UserError:
        return False
    told = all(name in header and tuple(header[name]["shape"]) == shape for name, shape in entry.tells.items())
    return told and all(name in header for name in needs)


def find_encoder(entry: EncoderFile, folders: Sequence[Path], needs: Collection[str] = ()) -> Path | None:
    """The first file in these folders, or in folders within them, that holds the encoder and the tensors `needs`; None if there is none."""
    return next((path for path in _files(folders) if holds(path, entry, needs)), None)


def require_encoder(entry: EncoderFile, folders: Sequence[Path], needs: Collection[str] = ()) -> Path:
    """The same file; UserError if there is none, saying where it was looked for and how to get it."""
    path = find_encoder(entry, folders, needs)
    if path is None:
        searched = ", ".join(map(str, folders)) or "no folder"
        raise UserError(
            f"{entry.label} was not found in {searched}; run the node Download Encoders, or put {entry.address} there under any name"
        )
    return path


def describe(entry: EncoderFile, folders: Sequence[Path]) -> str:
    """A line for a person: the encoder, its licence, and where its whole file is, or how large it is to fetch."""
    path = find_encoder(entry, folders, entry.whole)
    place = f"to fetch, {entry.size / 1e9:.2f} GB" if path is None else f"here: {path.parent.name}/{path.name}"
    return f"{entry.label} ({entry.licence}): {place}"


def _files(folders: Sequence[Path]) -> Iterator[Path]:
    """All `.safetensors` files in a fixed order; hidden folders, where downloads are under way, are left out, and so are loops of links."""
    visited = set()
    for folder in folders:
        for place, inner, names in os.walk(folder, followlinks=True):
            real = os.path.realpath(place)
            inner[:] = [] if real in visited else sorted(name for name in inner if not name.startswith("."))
            if real not in visited:
                yield from (Path(place, name) for name in sorted(names) if name.lower().endswith(".safetensors"))
            visited.add(real)
