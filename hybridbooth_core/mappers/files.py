"""Mapper files: converts published weights to one `.safetensors` file, and loads it."""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import UserError
from ..files.safetensors import read_header, read_tensors, write_tensors
from .elite import EliteMapper
from .mapper import Mapper
from .published import recognise
from .single_word import ACTIVATIONS, SingleWordMapper

log = logging.getLogger("hybridbooth")

FORMAT, FORMAT_VERSION = "hybridbooth.mapper", 1
MAX_BYTES = 1 << 30
MAX_PUBLISHED = 16 << 30  # Pic2Word's file also contains its CLIP and the optimizer state
MAX_LAYERS = 16
_SAFE_TORCH = (2, 6)  # older versions: weights_only can be bypassed (CVE-2025-32434)


def convert(path: Path, out: Path, licence: str | None = None) -> Mapper:
    """Converts a published file (`.pt`, `.pth`, `.bin` or `.safetensors`), writes it to `out` and returns the mapper.

    Runs no code from the file: pickles are loaded with `weights_only`.

    Args:
        licence: None uses the licence of the authors' repository.
    Raises:
        UserError: the file is missing, damaged, contains code or no known mapper, or `out` cannot be written.
    """
    mapper, left_out = recognise(_published(path))
    mapper.licence = mapper.licence if licence is None else licence.strip()
    if not mapper.licence:
        raise UserError("expected a licence such as CC-BY-NC-4.0, found an empty text; leave --licence out to use the authors' licence")
    if left_out:
        log.info("ignored %d key and value matrices of the denoiser: HybridBooth does not change the model", left_out)
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "kind": mapper.kind,
        "source": mapper.source,
        "licence": mapper.licence,
    }
    write_tensors(out, mapper.state_dict(), metadata)
    return mapper


def load(path: Path) -> Mapper:
    """Loads a file written by `convert`; the mapper is in eval mode and frozen.

    Raises:
        UserError: the file is not a mapper, is damaged, has a newer format, or its tensors do not match its kind.
    """
    header, metadata = read_header(path, "mapper", MAX_BYTES)
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path.name} is not a HybridBooth mapper; create one with `hybridbooth convert-mapper`")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        found = metadata.get("format_version", "")[:20]
        raise UserError(f"{path.name} has mapper format {found!r}, this pack reads {FORMAT_VERSION}; update the pack")
    with torch.device("meta"):
        mapper = _empty(metadata.get("kind", ""), header, path)
    expected = {name: list(tensor.shape) for name, tensor in mapper.state_dict().items()}
    mapper.load_state_dict(read_tensors(path, "mapper", header, expected), assign=True)
    mapper.source, mapper.licence = (metadata.get(key, "")[:200] for key in ("source", "licence"))
    return mapper.eval().requires_grad_(False)


def _empty(kind: str, header: dict[str, dict], path: Path) -> Mapper:
    if kind == EliteMapper.kind:
        return EliteMapper()
    if kind not in ACTIVATIONS:
        raise UserError(f"{path.name} contains a mapper of the unknown kind {kind[:20]!r}; update the pack")
    shapes = [header[name]["shape"] for k in range(MAX_LAYERS) if (name := f"layers.{k}.weight") in header]
    if not shapes or not all(len(shape) == 2 and all(isinstance(n, int) and 0 < n <= 65536 for n in shape) for shape in shapes):
        raise UserError(f"the layers in {path.name} are not those of a mapper; convert the published file again")
    try:
        return SingleWordMapper(kind, [shapes[0][1], *(shape[0] for shape in shapes)])
    except ValueError as error:
        raise UserError(f"{path.name} is not a mapper for CLIP ViT-L/14 ({error}); convert the published file again") from error


def _published(path: Path) -> Any:
    """The contents of a published file: dictionaries of tensors."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"the file {path.name} cannot be read ({error.strerror or error}); check its path") from error
    if size > MAX_PUBLISHED:
        raise UserError(f"expected a mapper of at most {MAX_PUBLISHED} bytes, found {size} in {path.name}; choose a published mapper")
    if path.suffix.lower() == ".safetensors":
        read_header(path, "published mapper", MAX_PUBLISHED)
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path.name} is damaged or truncated ({error}); download it again") from error
    if tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2]) < _SAFE_TORCH:
        raise UserError(f"reading {path.suffix or 'these'} files safely needs torch 2.6 or newer, found {torch.__version__}; update torch")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path.name} is damaged or contains more than weights, so loading it could run code; download the file from its authors"
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{path.name} is damaged or not a PyTorch file ({type(error).__name__}); download it again") from error


def summary(mapper: Mapper) -> str:
    """One line for users: source, kind, size and licence."""
    parameters = sum(parameter.numel() for parameter in mapper.parameters()) / 1e6
    licence = mapper.licence or "not stated"
    return f"{mapper.source or 'unknown source'} ({mapper.kind}, {parameters:.3g} M parameters); licence: {licence}"
