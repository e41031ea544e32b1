"""Images in tars of the WebDataset kind: members that share a name up to its first dot are one sample.

Nothing is ever unpacked to the disk, and nothing but images and JSON is ever looked into.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .items import MAX_NAME, Blob, Item, contained

IMAGES, MASK, NOTES = ("jpg", "jpeg", "png", "webp"), "mask.png", "json"
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


def images_in(tars: Sequence[Path]) -> Iterator[Item]:
    """Every sample in order. Headers alone are read here, so passing over samples costs little."""
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
            if not stem:  # hidden, as what some systems write beside each file
                continue
            if folder + slash + stem != key:
                yield from _sample(path.name, key, parts)
                key, parts = folder + slash + stem, {}
            parts.setdefault(ending.lower(), Blob(path, info.offset_data, info.size))
        yield from _sample(path.name, key, parts)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All headers; ReadError where a tar ends in something that is none, which `tarfile` itself takes for the end."""
    while (info := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # else every header of the tar would stay in memory
        yield info
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError("a header is damaged")


def _refusal(info: tarfile.TarInfo) -> str:
    if not contained(info.name):
        return "refused: its name leads out of the tar"
    return "" if info.type in PLAIN else "refused: it is a link or no plain file"


def _sample(tar: str, key: str, parts: dict[str, Blob]) -> Iterator[Item]:
    image = next((parts[ending] for ending in IMAGES if ending in parts), None)
    if image is not None:
        yield Item(f"{tar}/{key[:MAX_NAME]}", image, parts.get(MASK), notes=parts.get(NOTES))
    elif parts:
        yield Item(f"{tar}/{key[:MAX_NAME]}", problem="a sample without an image")


def _plain(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
