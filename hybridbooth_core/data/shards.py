"""The layout on disk: tars of the WebDataset kind and an index that says what they hold. docs/data.md describes it for other programs."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import UserError
from ..files.atomic import fsync, write_atomic

FORMAT, VERSION = "hybridbooth.shards", 1
INDEX, LEFT_OUT, PROGRESS = "index.json", "left_out.jsonl", "progress.jsonl"
IMAGE, MASK, NOTES, FEATURES = "jpg", "mask.png", "json", "features.safetensors"
CLIP, DINO, LATENTS, REFERENCE_LATENTS = "clip", "dino", "latents", "reference_latents"  # the tensors in FEATURES
SUBJECT, WHOLE = "subject", "whole"  # what of the square the reference is
UNKNOWN = "unknown"  # the licence of images that say nothing of it
MAX_INDEX = 1 << 28

_NAME = re.compile(r"shard-[0-9]{6,9}\.tar")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shard:
    """A finished tar: its name, how many samples and bytes it has, and the hash of all its bytes."""

    name: str
    samples: int
    bytes: int
    sha256: str

    def __post_init__(self):
        numbers = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in (self.samples, self.bytes))
        texts = isinstance(self.name, str) and isinstance(self.sha256, str)
        if not (numbers and texts and _NAME.fullmatch(self.name) and _HASH.fullmatch(self.sha256)):
            raise ValueError("no entry of a shard")


@dataclass(frozen=True)
class Index:
    """What is in a folder of shards.

    Attributes:
        config: everything that decided their content: size, filters, how masks and features were made (`features` is None without).
        counts: samples read, kept, with a mask, with a class noun, of each licence, and left out for each reason.
    """

    config: dict[str, Any]
    counts: dict[str, Any]
    shards: tuple[Shard, ...]

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @property
    def licences(self) -> dict[str, int]:
        """How many samples have each licence, the most frequent first. What was not counted (by an earlier version) is UNKNOWN."""
        counted = self.counts.get("licences")
        known = {str(name): n for name, n in counted.items() if isinstance(n, int) and n > 0} if isinstance(counted, dict) else {}
        if (rest := self.samples - sum(known.values())) > 0:
            known[UNKNOWN] = known.get(UNKNOWN, 0) + rest
        return dict(sorted(known.items(), key=lambda entry: (-entry[1], entry[0])))

    def write(self, folder: Path) -> None:
        entry = {"format": FORMAT, "version": VERSION, "config": self.config, "counts": self.counts}
        text = json.dumps({**entry, "shards": [asdict(shard) for shard in self.shards]}, indent=1)
        write_atomic(folder / INDEX, text + "\n", durable=True)


def read_index(folder: Path) -> Index:
    """The index of a folder that `hybridbooth prepare` has finished.

    Raises:
        UserError: there is none, it was not finished, it is damaged, or a newer version wrote it.
    """
    path = folder / INDEX
    try:
        if path.stat().st_size > MAX_INDEX:
            raise UserError(f"{path} has more than {MAX_INDEX} bytes, too many for an index; prepare the images again")
        entry = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        begun = "was not finished: run the same `hybridbooth prepare` again" if (folder / PROGRESS).exists() else "has no shards"
        raise UserError(f"expected a folder made by `hybridbooth prepare`, but {folder} {begun} (it has no {INDEX})") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check it") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged (it is no JSON); copy it again, or prepare the images again") from error
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise UserError(f"{path} is no index of shards by `hybridbooth prepare`; choose the folder that it made")
    if entry.get("version") != VERSION:
        raise UserError(f"{path} has the version {str(entry.get('version'))[:20]}, this one reads {VERSION}; update, or prepare again")
    try:
        shards = tuple(Shard(**shard) for shard in entry["shards"])
        if not (shards and isinstance(entry["config"], dict) and isinstance(entry["counts"], dict)):
            raise ValueError("incomplete")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged (an entry is none of an index); copy it again, or prepare the images again") from error
    return Index(entry["config"], entry["counts"], shards)


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.tar"


def partial_shard(folder: Path, number: int) -> Path:
    return folder / f".{shard_name(number)}.partial"


class _Hashed:
    """A file that is written once from the start, and its hash."""

    def __init__(self, file: BinaryIO):
        self._file, self._digest, self.bytes = file, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        self.bytes += len(content)
        return self._file.write(content)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def write_partial(folder: Path, number: int, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> Shard:
    """Write a shard beside its place, down to the disk. The same samples make the same bytes: no times, no owners.

    Args:
        samples: keys, and for each the content by its ending.
    """
    count = 0
    with partial_shard(folder, number).open("wb") as file:
        hashed = _Hashed(file)
        with tarfile.open(fileobj=hashed, mode="w|", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
            for key, parts in samples:
                count += 1
                for ending, content in parts.items():
                    _add(tar, f"{key}.{ending}", content)
        fsync(file)
    return Shard(shard_name(number), count, hashed.bytes, hashed.sha256)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)  # whose time and owners are 0 and nobody
    info.size = len(content)
    tar.addfile(info, BytesIO(content))


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """UserError for whatever the disk refuses within."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}); what is finished stays: make room, then run the same command again"
        ) from error
