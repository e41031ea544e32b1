"""Reading and writing `.safetensors` that strangers made: one policy for every artefact.

A file is read only if its size and header are within bounds, its tensors are exactly those expected, and every number is finite. It is
written beside its place and renamed, so that a crash leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import UserError
from .atomic import atomic

MAX_HEADER = 1 << 20
FLOATS = ("F16", "BF16", "F32")


def read_header(path: Path, what: str, max_bytes: int) -> tuple[dict[str, dict], dict[str, str]]:
    """The tensors' entries (`dtype`, `shape`) and the metadata of a file, before any tensor is read.

    Raises:
        UserError: the file is missing, too large, truncated, or no safetensors.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size > max_bytes:
                raise UserError(f"{path.name} has {size} bytes, a {what} at most {max_bytes}; this is another kind of file")
            if size < 10 or not 2 <= length <= min(size - 8, MAX_HEADER):
                raise UserError(f"{path.name} is no complete .safetensors file ({size} bytes); get the {what} again")
            header = json.loads(file.read(length), object_pairs_hook=_without_doubles)
    except OSError as error:
        raise UserError(f"the {what} {path.name} cannot be read ({error.strerror or error}); check its name and place") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path.name} is no .safetensors file (its header is no plain JSON); choose a {what}") from error
    if not isinstance(header, dict):
        raise UserError(f"{path.name} is no .safetensors file (its header is no table); choose a {what}")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise UserError(f"the metadata of {path.name} is damaged; get the {what} again")
    if not all(isinstance(entry, dict) and isinstance(entry.get("shape"), list) for entry in header.values()):
        raise UserError(f"the header of {path.name} is damaged; get the {what} again")
    return header, metadata


def declared_format(path: Path) -> str | None:
    """What a file says it is, by the entry `format` of its metadata: "" if it says nothing, None if it cannot be read. Reads no tensor."""
    try:
        return read_header(path, "file", sys.maxsize)[1].get("format", "")
    except UserError:
        return None


def read_tensors(
    path: Path,
    what: str,
    header: Mapping[str, dict],
    expected: Mapping[str, list[int]],
    others: bool = False,
    dtype: torch.dtype | None = torch.float32,
) -> dict[str, Tensor]:
    """The tensors of a file, if they are exactly the expected names and shapes (-1 matches any length) and finite.

    Args:
        others: the file may hold other tensors too; they are not read.
        dtype: what they are turned into; None keeps what is stored.
    Raises:
        UserError: a tensor is missing, extra, of another shape or type, or holds NaN or infinity; or the file is truncated.
    """
    for name in expected:
        if name not in header:
            raise UserError(f"{path.name} lacks the tensor {name!r} of a {what}; it holds {_some(header)}")
    for name, entry in header.items():
        if name not in expected:
            if others:
                continue
            raise UserError(f"a {what} holds {_some(expected)}, but {path.name} also holds {name[:80]!r}; it is another kind of file")
        shape, wanted = entry["shape"], expected[name]
        if len(shape) != len(wanted) or any(w not in (-1, s) for s, w in zip(shape, wanted, strict=True)):
            raise UserError(f"{name} in {path.name} should be {_shape(wanted)}, found {_shape(shape)}; it was made for another model")
        if entry.get("dtype") not in FLOATS:
            raise UserError(f"{name} in {path.name} should be float16, bfloat16 or float32, found {entry.get('dtype')!r}")
    try:
        with safe_open(path, framework="pt") as file:
            # copies: a tensor of a mapped file would change when the file is written over in place, and end the process when it is cut
            tensors = {name: (found := file.get_tensor(name)).to(dtype or found.dtype, copy=True) for name in expected}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path.name} is damaged or truncated ({error}); get the {what} again") from error
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{name} in {path.name} holds numbers that are not finite; the {what} was damaged when it was made")
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a `.safetensors` file in one stroke.

    Raises:
        UserError: a number is not finite, or the folder does not exist or cannot be written; nothing is left behind.
    """
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{name} holds numbers that are not finite in {tensor.dtype}, so {path.name} was not written")
    if not path.parent.is_dir():
        raise UserError(f"the folder {path.parent} does not exist; make it, or choose another place")
    try:
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata=dict(metadata))
        with atomic(path) as file:
            file.writelines(_in_order(content))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be written ({error}); choose another place or free some space") from error


def _in_order(content: bytes) -> tuple[bytes, memoryview]:
    """A file's bytes with sorted metadata: safetensors leaves their order to chance, but one content should have one hash."""
    data = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:data])
    header = {"__metadata__": dict(sorted(header.pop("__metadata__", {}).items())), **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, memoryview(content)[data:]


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON table; ValueError if it names a key twice, since readers differ in which one they take."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _some(names: Mapping[str, object]) -> str:
    listed = [repr(str(name)[:80]) for name in list(names)[:3]]
    return ", ".join(listed) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if listed else "no tensor"


def _shape(shape: list[int]) -> str:
    return "[" + ", ".join("n" if s == -1 else str(s) for s in shape) + "]"
