"""Reads complete shards into memory and checks their hashes."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import BinaryIO

from ..errors import UserError
from .examples import Stored
from .shards import IMAGE, NOTES, Index, Shard


def check_shards(folder: Path, index: Index) -> None:
    """UserError if a shard is missing or has another size. No file is opened."""
    for shard in index.shards:
        try:
            size = (folder / shard.name).stat().st_size
        except OSError as error:
            raise UserError(f"{shard.name} is missing from {folder}; put it back, or prepare the images again") from error
        if size != shard.bytes:
            raise UserError(f"{folder / shard.name} has {size} bytes, not {shard.bytes}; copy it again, or prepare the images again")


def load_shard(folder: Path, shard: Shard, images: bool = True) -> list[Stored]:
    """The samples of a shard. Only their descriptions are parsed.

    Args:
        images: False leaves out the images.
    Raises:
        UserError: the shard is missing, unreadable, or was changed.
    """
    path = folder / shard.name
    try:
        with path.open("rb") as file:
            return _samples(file, shard, images)
    except FileNotFoundError as error:
        raise UserError(f"{shard.name} is missing from {folder}; put it back, or prepare the images again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); check the disk, or copy it again") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); copy it again, or prepare the images again") from error


class _Hashing:
    """Hashes a file while it is read once from the start."""

    def __init__(self, file: BinaryIO):
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self.digest.update(content)
        return content


def _samples(file: BinaryIO, shard: Shard, images: bool) -> list[Stored]:
    """The samples of a shard; ValueError if its hash differs."""
    source, samples = _Hashing(file), {}
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:  # type: ignore[call-overload]  # of a stream, without decompression
            for member in tar:
                key, _, ending = member.name.partition(".")
                content = tar.extractfile(member) if images or ending != IMAGE else None
                if content is not None:
                    samples.setdefault(key, {"__key__": key})[ending] = content.read()
        while source.read(1 << 20):
            pass
        if source.digest.hexdigest() != shard.sha256:
            raise ValueError("its hash differs from the index")
        for sample in samples.values():
            sample[NOTES] = json.loads(sample[NOTES])
    except (tarfile.TarError, KeyError, RecursionError) as error:
        raise ValueError("not a complete tar of samples") from error
    complete = [sample for sample in samples.values() if isinstance(sample[NOTES], dict) and (IMAGE in sample or not images)]
    if len(complete) != shard.samples:
        raise ValueError(f"{len(complete)} complete samples instead of {shard.samples}")
    return complete
