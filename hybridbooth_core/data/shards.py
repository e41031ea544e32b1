"""The layout on disk: WebDataset tars and an index. docs/data.md documents it for other programs."""

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
SUBJECT, WHOLE = "subject", "whole"  # the reference: a crop of the subject, or the whole square
UNKNOWN = "unknown"  # the licence of images without one
MAX_INDEX = 1 << 28

_NAME = re.compile(r"shard-[0-9]{6,9}\.tar")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shard:
    """A complete tar: its name, number of samples, bytes, and sha256."""

    name: str
    samples: int
    bytes: int
    sha256: str

    def __post_init__(self):
        numbers = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in (self.samples, self.bytes))
        texts = isinstance(self.name, str) and isinstance(self.sha256, str)
        if not (numbers and texts and _NAME.fullmatch(self.name) and _HASH.fullmatch(self.sha256)):
            raise ValueError("not a shard entry")


@dataclass(frozen=True)
class Index:
    """The index of a folder of shards.

    Attributes:
        config: the settings that decide the content: size, filters, networks of masks and features (`features` is None without).
        counts: samples read, kept, with a mask, with a class noun, by licence, and left out by reason.
    """

    config: dict[str, Any]
    counts: dict[str, Any]
    shards: tuple[Shard, ...]

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @property
    def licences(self) -> dict[str, int]:
        """Number of samples by licence, most frequent first. Samples that an earlier version did not count are UNKNOWN."""
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
    """The index of a folder that `hybridbooth prepare` has completed.

    Raises:
        UserError: it is missing or damaged, or a newer version wrote it.
    """
    path = folder / INDEX
    try:
        if path.stat().st_size > MAX_INDEX:
            raise UserError(f"{path} has more than {MAX_INDEX} bytes, too many for an index; prepare the images again")
        entry = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        state = "is not complete: run the same `hybridbooth prepare` again" if (folder / PROGRESS).exists() else "has no shards"
        raise UserError(f"expected a folder made by `hybridbooth prepare`, but {folder} {state} (no {INDEX})") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check it") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged (it is not JSON); copy it again, or prepare the images again") from error
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise UserError(f"{path} is not an index of `hybridbooth prepare`; choose a folder that it made")
    if entry.get("version") != VERSION:
        raise UserError(f"{path} has format version {str(entry.get('version'))[:20]}, expected {VERSION}; update, or prepare again")
    try:
        shards = tuple(Shard(**shard) for shard in entry["shards"])
        if not (shards and isinstance(entry["config"], dict) and isinstance(entry["counts"], dict)):
            raise ValueError("incomplete")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged (an entry is not valid); copy it again, or prepare the images again") from error
    return Index(entry["config"], entry["counts"], shards)


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.tar"


def partial_shard(folder: Path, number: int) -> Path:
    return folder / f".{shard_name(number)}.partial"


class _Hashed:
    """Hashes a file while it is written once from the start."""

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
    """Writes a shard under a temporary name and fsyncs it. The same samples give the same bytes: no times, no owners.

    Args:
        samples: keys, and the content of each member by extension.
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
    info = tarfile.TarInfo(name)  # with time 0 and no owner
    info.size = len(content)
    tar.addfile(info, BytesIO(content))


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns any OSError inside the block into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}); complete shards remain: free some space and run the command again"
        ) from error
