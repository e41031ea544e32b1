"""Lists images in folders. Only the names in one folder and its sibling folders are in memory: about 150 bytes each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from ..errors import UserError
from .items import MAX_NAME, Blob, Facts, Item, LeftOut, contained

METADATA, CLASSES = "metadata.jsonl", "prompts_and_classes.txt"
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
MASK_ENDINGS = (".mask.png", "_mask.png")
MAX_LINE = 1 << 16


def images_in(folder: Path) -> Iterator[Item]:
    """All images below a folder in a fixed order: those listed in `metadata.jsonl`, or else all image files.

    Without that file, each folder's images come first, by name, then its subfolders, by name; an image's identity is the path of its
    folder. Skips names that start with a dot and links to folders.

    Raises:
        UserError: the list of classes cannot be read.
    """
    if (folder / METADATA).is_file():
        return _listed(folder)
    return _found(folder, _classes(folder))


def _classes(folder: Path) -> Mapping[str, str]:
    """The class nouns by folder, from the list in the DreamBooth dataset; empty without it."""
    path = folder / CLASSES
    if not path.is_file():
        return {}
    from ..evaluation.protocol import MAX_LIST_BYTES, parse_lists

    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise UserError(f"{path} has more than {MAX_LIST_BYTES} bytes; use the file from google/dreambooth, or remove it")
        return parse_lists(path.read_text(encoding="utf-8")).classes
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); correct it, or remove it") from error


def _found(folder: Path, classes: Mapping[str, str]) -> Iterator[Item]:
    stack = [""]
    while stack:
        place = stack.pop()
        try:
            images, masks, inner = _listing(folder / place)
        except OSError as error:
            yield Item(place or ".", problem=f"the folder cannot be listed ({error.strerror})")
            continue
        facts = Facts(identity=place[:MAX_NAME] or None, class_word=classes.get(place.split("/")[0]))
        for name in images:
            stem = os.path.splitext(name)[0]
            mask = next((stem + ending for ending in MASK_ENDINGS if stem + ending in masks), None)
            mask = Blob(folder / place / mask) if mask else None
            yield Item(_joined(place, name), Blob(folder / place / name), mask, facts)
        stack += [_joined(place, name) for name in reversed(inner)]


def _listing(folder: Path) -> tuple[list[str], set[str], list[str]]:
    """Names of a folder's images (sorted), masks, and subfolders (sorted)."""
    images, masks, inner = [], set(), []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            if name.endswith(MASK_ENDINGS):
                masks.add(name)
            elif name.lower().endswith(IMAGES) and entry.is_file():
                images.append(name)
            elif entry.is_dir(follow_symlinks=False):
                inner.append(name)
    return sorted(images), masks, sorted(inner)


def _joined(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name


def _listed(folder: Path) -> Iterator[Item]:
    """The images listed in METADATA, which is read line by line."""
    try:
        with (folder / METADATA).open("rb") as lines:
            number = 0
            while line := lines.readline(MAX_LINE):
                number += 1
                whole = line.endswith(b"\n") or len(line) < MAX_LINE
                while not (line.endswith(b"\n") or len(line) < MAX_LINE):
                    line = lines.readline(MAX_LINE)
                if line.strip():
                    place = f"{METADATA}:{number}"
                    yield _entry(folder, line, place) if whole else Item(place, problem="the line is too long")
    except OSError as error:
        raise UserError(f"{folder / METADATA} cannot be read ({error.strerror}); check it") from error


def _entry(folder: Path, line: bytes, place: str) -> Item:
    try:
        entry = json.loads(line)
        facts = Facts.parse(entry)
        files = [entry.get("file_name"), entry.get("mask")]
    except (ValueError, RecursionError):
        return Item(place, problem="not a line of JSON")
    except LeftOut as error:
        return Item(place, problem=error.detail)
    for file in files:
        if file is not None and not (isinstance(file, str) and len(file) <= MAX_NAME and contained(file)):
            return Item(place, problem="its file_name or mask is not a path below the folder")
    if files[0] is None:
        return Item(place, problem="it has no file_name")
    image, mask = (None if file is None else Blob(folder / PurePosixPath(file)) for file in files)
    return Item(files[0], image, mask, facts)
