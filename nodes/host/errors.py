"""Errors as the panel shows them: a sentence, without class paths and folders of this machine."""
# pyright: reportMissingImports=false

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import folder_paths

from ...hybridbooth_core.errors import UserError


class HybridBoothError(Exception):
    """What a user can mend. ComfyUI shows an error's module before its name, and a pack's module is the path of its folder."""

    __module__ = "builtins"


def node_error(error: UserError) -> HybridBoothError:
    """The error to raise from a node."""
    return HybridBoothError(without_folders(str(error), [folder_paths.base_path, folder_paths.models_dir]))


def without_folders(sentence: str, roots: Sequence[str]) -> str:
    """The sentence with paths inside `roots` relative to them, and other absolute paths cut down to their last two parts."""
    for root in sorted(filter(None, roots), key=len, reverse=True):
        name = os.path.basename(root.rstrip("/\\")) if root != roots[0] else ""
        sentence = sentence.replace(root.rstrip("/\\") + os.sep, f"{name}{os.sep}" if name else "")
    return re.sub(r"(?<![\w/.:])(?:[A-Za-z]:)?[/\\](?:[^\s/\\,;:]+[/\\])+([^\s/\\,;:]+[/\\][^\s/\\,;:]+)", r"\1", sentence)
