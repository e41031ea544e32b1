"""Images of a source before they are read, and the reasons to leave an image out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..refine.captions import SUBJECT as SUBJECT  # stands for the subject in a prompt

REASONS = {
    "unreadable": "not a complete image, or not allowed",
    "large": "too many pixels or bytes",
    "small": "the shorter side has too few pixels",
    "mask": "the mask cannot be used",
    "area": "the subject is too small or too large",
    "blur": "not sharp",
}
"""All reasons to leave an image out, with descriptions for the user."""

MAX_NAME, MAX_WORD = 512, 64


class LeftOut(Exception):
    """An image is not used: one of REASONS, and a text that says what was found. It never aborts a run."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Readable(Protocol):
    """Bytes to read later."""

    def read(self, limit: int) -> bytes:
        """The bytes; LeftOut if there are more than `limit`, or they cannot be read."""
        ...


@dataclass(frozen=True)
class Blob:
    """Bytes to read later: a file, or with `size` a part of it that starts at `offset`."""

    path: Path
    offset: int = 0
    size: int | None = None

    def read(self, limit: int) -> bytes:
        """The bytes.

        Raises:
            LeftOut: there are more than `limit` bytes, fewer than `size`, or they cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read(limit + 1 if self.size is None else min(self.size, limit + 1))
        except OSError as error:
            raise LeftOut("unreadable", error.strerror or type(error).__name__) from error
        if len(content) > limit:
            raise LeftOut("large", f"more than {limit} bytes")
        if self.size is not None and len(content) < self.size:
            raise LeftOut("unreadable", "the file ends too early")
        return content


@dataclass(frozen=True)
class Facts:
    """Metadata of an image from its folder, tar or metadata file. `prompt` describes it, with `<subject>` in its subject's place."""

    identity: str | None = None
    class_word: str | None = None
    source: str | None = None
    licence: str | None = None
    prompt: str | None = None

    @staticmethod
    def parse(entry: Any) -> Facts:
        """Reads an untrusted JSON object with the optional keys `identity`, `class_word` or `class`, `source`, `licence`, `prompt`.

        Raises:
            LeftOut: it is not an object, or a value is not a text of sensible length.
        """
        if not isinstance(entry, dict):
            raise LeftOut("unreadable", "its description is not a JSON object")
        class_word = entry.get("class_word", entry.get("class"))
        found = {name: entry.get(name) for name in ("identity", "source", "licence", "prompt")}
        for name, text, limit in (("class_word", class_word, MAX_WORD), *((name, text, MAX_NAME) for name, text in found.items())):
            if text is not None and not (isinstance(text, str) and text.strip() and len(text) <= limit and text.isprintable()):
                raise LeftOut("unreadable", f"its {name} is not a text of 1 to {limit} characters")
        return Facts(class_word=class_word, **found)

    def over(self, other: Facts) -> Facts:
        """These facts; missing ones are taken from `other`."""
        return Facts(*(mine if mine is not None else theirs for mine, theirs in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[str | None, ...]:
        return self.identity, self.class_word, self.source, self.licence, self.prompt


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Attributes:
        name: its path relative to the source, for logs and shards.
        image, mask: None if missing; the mask may also be the image's alpha channel.
        notes: a JSON file with further facts, which take precedence over `facts`.
        problem: why the image cannot be used, if that is already known.
    """

    name: str
    image: Readable | None = None
    mask: Readable | None = None
    facts: Facts = Facts()
    notes: Blob | None = None
    problem: str = ""


def contained(name: str) -> bool:
    """Whether a relative path stays inside its folder: not absolute on any system, and without `..`."""
    parts = name.replace("\\", "/").split("/")
    return bool(name) and "\0" not in name and parts[0] != "" and ":" not in parts[0] and ".." not in parts
