"""CLIP's vocabulary, which no checkpoint holds: from the package open_clip_torch, which ships it, or from a ComfyUI folder.

Both are the byte-pair encoding of Radford et al. 2021; Stable Diffusion 1.5's text encoder reads its 49408 tokens.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from typing import Any

from ..errors import UserError

PACKAGE, PACKED = "open_clip", "bpe_simple_vocab_16e6.txt.gz"
COMFYUI = Path("comfy") / "sd1_tokenizer"
START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = 49152 - 256 - 2
LENGTH = 77


def clip_tokenizer(folder: Path, comfyui: Path | None = None) -> Any:
    """transformers' CLIPTokenizer. Its two files are written into `folder`, where they must stay until it is made.

    Raises:
        UserError: neither the package nor the ComfyUI folder has the vocabulary.
    """
    from transformers import CLIPTokenizer

    vocabulary, merges = find_vocabulary(comfyui)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=LENGTH)


def find_vocabulary(comfyui: Path | None = None) -> tuple[dict[str, int], list[str]]:
    """The ids of all tokens, and the merges in their order; UserError where neither place has them."""
    package = importlib.util.find_spec(PACKAGE)  # finds the folder without importing the package
    for place in (package.submodule_search_locations or ()) if package else ():
        packed = Path(place) / PACKED
        if packed.is_file():
            return from_merges(gzip.decompress(packed.read_bytes()).decode("utf-8"))
    if comfyui is not None and (comfyui / COMFYUI / "merges.txt").is_file():
        return from_merges((comfyui / COMFYUI / "merges.txt").read_text(encoding="utf-8"))
    raise UserError(
        "a checkpoint does not hold CLIP's vocabulary, and neither the package open_clip_torch nor a ComfyUI folder with it was found; "
        "run: pip install open_clip_torch, or give --comfyui DIR"
    )


def from_merges(text: str) -> tuple[dict[str, int], list[str]]:
    """The vocabulary that a list of merges (one a line, below a line with its version) stands for."""
    merges = [line for line in text.split("\n")[1 : MERGES + 1] if line]
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge.split()) for merge in merges), START, END]
    return {token: number for number, token in enumerate(tokens)}, merges


def _byte_letters() -> list[str]:
    """The printable character that stands for each byte, in the order of their ids: printable Latin-1 first, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(others))]
