"""Lists images in WebDataset tars: members with the same name up to the first dot are one sample.

Nothing is unpacked to the disk, and only images and JSON files are read.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .items import MAX_NAME, Blob, Item, contained

IMAGES, MASK, NOTES = ("jpg", "jpeg", "png", "webp"), "mask.png", "json"
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


def images_in(tars: Sequence[Path]) -> Iterator[Item]:
    """All samples in order. Only headers are read, so skipping samples is cheap."""
    for path in tars:
        try:
            yield from _samples(path)
        except (tarfile.TarError, OSError, ValueError, RecursionError) as error:
            yield Item(path.name, problem=f"the rest of this tar cannot be read ({_plain(error)})")


def _samples(path: Path) -> Iterator[Item]:
    with tarfile.open(path, "r:") as tar:
        key, parts = "", {}
        for info in _members(tar):
            if info.isdir():
                continue
            problem = _refusal(info)
            if problem:
                yield Item(f"{path.name}/{info.name[:MAX_NAME]}", problem=problem)
                continue
            folder, slash, base = info.name.rpartition("/")
            stem, _, ending = base.partition(".")
            if not stem:  # hidden files, which some systems add
                continue
            if folder + slash + stem != key:
                yield from _sample(path.name, key, parts)
                key, parts = folder + slash + stem, {}
            parts.setdefault(ending.lower(), Blob(path, info.offset_data, info.size))
        yield from _sample(path.name, key, parts)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All headers; ReadError for a damaged header, which `tarfile` would take for the end."""
    while (info := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # otherwise all headers stay in memory
        yield info
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError("a header is damaged")


def _refusal(info: tarfile.TarInfo) -> str:
    if not contained(info.name):
        return "refused: its path leads out of the tar"
    return "" if info.type in PLAIN else "refused: it is not a regular file"


def _sample(tar: str, key: str, parts: dict[str, Blob]) -> Iterator[Item]:
    image = next((parts[ending] for ending in IMAGES if ending in parts), None)
    if image is not None:
        yield Item(f"{tar}/{key[:MAX_NAME]}", image, parts.get(MASK), notes=parts.get(NOTES))
    elif parts:
        yield Item(f"{tar}/{key[:MAX_NAME]}", problem="the sample has no image")


def _plain(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
