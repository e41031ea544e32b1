"""Errors as the panel shows them: a sentence, without class paths and folders of this machine."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PART = r"[^\s/\\,;:'\"]+"
_ABSOLUTE = re.compile(rf"(?<![\w/\\.:~])(?:[A-Za-z]:)?[/\\](?:{_PART}[/\\])+({_PART}[/\\]{_PART})")


class HybridBoothError(Exception):
    """What a user can mend. ComfyUI shows an error's module before its name, and a pack's module is the path of its folder."""

    __module__ = "builtins"


def without_folders(sentence: str, roots: Sequence[str]) -> str:
    """The sentence with paths inside `roots` relative to them, and of other absolute paths the last two parts. URLs stay."""
    for root in sorted(filter(None, roots), key=len, reverse=True):
        inside = re.escape(root.rstrip("/\\"))
        sentence = re.sub(rf"{inside}[/\\]", "", sentence)
        sentence = re.sub(rf"{inside}(?=[\s,;:'\"]|$)", "this ComfyUI", sentence)
    return _ABSOLUTE.sub(r"\1", sentence)
