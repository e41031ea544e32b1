"""What a source of images offers before anything is read, and why something of it may be left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

REASONS = {
    "unreadable": "no whole image, or not allowed",
    "large": "too many pixels or bytes",
    "small": "the shorter side has too few pixels",
    "mask": "its mask cannot be used",
    "area": "the subject is too small or too large",
    "blur": "not sharp",
}
"""Every reason for which an image is left out, as a person reads it."""

MAX_NAME, MAX_WORD = 512, 64


class LeftOut(Exception):
    """An image that is not used: one of REASONS, and in words what was found. Never ends a run."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Blob:
    """Bytes that are read later: a file, or with `size` the part of it from `offset` on."""

    path: Path
    offset: int = 0
    size: int | None = None

    def read(self, limit: int) -> bytes:
        """All of it.

        Raises:
            LeftOut: it has more than `limit` bytes, fewer than it should have, or cannot be read.
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
            raise LeftOut("unreadable", "its file ends within it")
        return content


@dataclass(frozen=True)
class Facts:
    """What is known of an image without looking at it. Nothing of it may be a number or a path of this machine."""

    identity: str | None = None
    class_word: str | None = None
    source: str | None = None
    licence: str | None = None

    @staticmethod
    def parse(entry: Any) -> Facts:
        """From a table that somebody wrote: `identity`, `class_word` or `class`, `source`, `licence`, all optional.

        Raises:
            LeftOut: it is no table, or one of them is no text of a sensible length.
        """
        if not isinstance(entry, dict):
            raise LeftOut("unreadable", "its description is no table")
        class_word = entry.get("class_word", entry.get("class"))
        found = {"identity": entry.get("identity"), "source": entry.get("source"), "licence": entry.get("licence")}
        for name, text, most in (("class_word", class_word, MAX_WORD), *((name, text, MAX_NAME) for name, text in found.items())):
            if text is not None and not (isinstance(text, str) and text.strip() and len(text) <= most and text.isprintable()):
                raise LeftOut("unreadable", f"its {name} is no text of 1 to {most} characters")
        return Facts(class_word=class_word, **found)

    def over(self, other: Facts) -> Facts:
        """These facts, and the other's where these say nothing."""
        return Facts(*(mine if mine is not None else theirs for mine, theirs in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[str | None, ...]:
        return self.identity, self.class_word, self.source, self.licence


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Attributes:
        name: what it is called in the log and in the shards, relative to the source.
        image, mask: None without; an image may also carry its mask as transparency.
        notes: a JSON file with more facts, which go before `facts`.
        problem: why it cannot be used, if that is known already.
    """

    name: str
    image: Blob | None = None
    mask: Blob | None = None
    facts: Facts = Facts()
    notes: Blob | None = None
    problem: str = ""


def contained(name: str) -> bool:
    """Whether a relative path stays where it is: not absolute on any system, nowhere up."""
    parts = name.replace("\\", "/").split("/")
    return bool(name) and "\0" not in name and parts[0] != "" and ":" not in parts[0] and ".." not in parts
