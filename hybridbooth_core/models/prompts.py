"""Subjects in prompts: `<name>`, as people write it.

`<name:0.8>` is a weighted name (AUTOMATIC1111's habit), spaces inside the brackets, full-width brackets and another case are forgiven.
Other programs' tags with a colon, such as `<lora:file:0.8>`, are left alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..errors import UserError
from .adapter import Piece, Prompt

MAX_NAME = 64  # characters
_TAG = re.compile(r"[<＜〈⟨]([^<>＜＞〈〉⟨⟩\n]{1,100})[>＞〉⟩]")
_WEIGHTED = re.compile(r"(.*?)\s*[:：]\s*(\d+(?:\.\d*)?|\.\d+)\s*", re.DOTALL)
_JOINERS = "\u200c\u200d"  # part of Persian and Indic spelling
_NOT_IN_NAMES = re.compile(r"[<>:()\[\]{}\"|*?/\\,.\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Tag:
    """A name in brackets: its place in the text, the name as it is meant, and its weight, None without one."""

    start: int
    end: int
    name: str
    weight: str | None


def tags(text: str) -> Iterator[Tag]:
    """The tags of a prompt that can name a subject, from left to right."""
    for match in _TAG.finditer(text):
        inner, weight = match[1], None
        weighted = _WEIGHTED.fullmatch(inner)
        if weighted:
            inner, weight = weighted[1], weighted[2]
        name = unicodedata.normalize("NFC", inner).strip()
        if plausible_name(name):
            yield Tag(match.start(), match.end(), name, weight)


def plausible_name(name: str) -> bool:
    """Whether a text can name a subject in a prompt and a file: 1 to 64 characters of any script, without brackets and the like."""
    hidden = any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and c not in _JOINERS for c in name)
    return 1 <= len(name) <= MAX_NAME and name == name.strip() and not hidden and not _NOT_IN_NAMES.search(name)


def find_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that is meant: the same, or the only one that differs by case alone; None if there is none."""
    names = list(known)
    if name in names:
        return name
    folded = [other for other in names if unicodedata.normalize("NFC", other).casefold() == name.casefold()]
    return folded[0] if len(folded) == 1 else None


def split_prompt(text: str, subjects: Mapping[str, Piece | Prompt], weighted: bool = False) -> list[Piece]:
    """Splits a prompt into pieces and replaces each `<name>` by its subject: token embeddings [n, d], text, or several such pieces.

    Args:
        weighted: the pieces are texts for a reader of weights, so `<name:0.8>` becomes "(piece:0.8)"; without such a reader it is refused.
    Raises:
        UserError: the prompt uses an unknown subject, or a weight where none can be used.
    """
    pieces: list[Piece] = []
    end = 0
    for tag in tags(text):
        found = find_name(tag.name, subjects)
        if found is None:
            known = ", ".join(f"<{name}>" for name in subjects) or "none"
            raise UserError(f"the prompt uses the subject <{tag.name}>, but the loaded subjects are: {known}; load it or fix the prompt")
        if tag.weight is not None and not weighted:
            raise UserError(
                f"expected <{found}> without a weight, found <{found}:{tag.weight}>; weights work in ComfyUI, here use strength"
            )
        subject = subjects[found]
        placed = [subject] if not isinstance(subject, list | tuple) else subject
        weights = ("(", f":{tag.weight})") if tag.weight is not None else ("", "")
        pieces += [text[end : tag.start], weights[0], *placed, weights[1]]  # type: ignore[list-item]
        end = tag.end
    pieces.append(text[end:])
    return [piece for piece in pieces if not (isinstance(piece, str) and not piece.strip())]
