"""Word mappers from and to files: published weights in, one `.safetensors` of ours out."""

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
from .mapper import WordMapper
from .published import recognise
from .single_word import ACTIVATIONS, SingleWordMapper

log = logging.getLogger("hybridbooth")

FORMAT, FORMAT_VERSION = "hybridbooth.mapper", 1
MAX_BYTES = 1 << 30
MAX_PUBLISHED = 16 << 30  # Pic2Word's file holds its CLIP and the optimizer's state too
MAX_LAYERS = 16
_SAFE_TORCH = (2, 6)  # before it, weights_only could be got round (CVE-2025-32434)


def convert(path: Path, out: Path, licence: str | None = None) -> WordMapper:
    """Read the file that a mapper's authors published (`.pt`, `.pth`, `.bin` or `.safetensors`) and write ours.

    Nothing in the file is run: pickles are read as weights only. `licence` None takes the one of the authors' repository.

    Raises:
        UserError: the file is missing, damaged, would run code, or holds no known mapper; or `out` cannot be written.
    """
    mapper, left_out = recognise(_published(path))
    mapper.licence = mapper.licence if licence is None else licence.strip()
    if not mapper.licence:
        raise UserError("expected the name of a licence such as CC-BY-NC-4.0, found nothing; leave --licence out for the authors' own")
    if left_out:
        log.info("left out %d key and value matrices of the denoiser: HybridBooth changes words, never the model", left_out)
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "kind": mapper.kind,
        "source": mapper.source,
        "licence": mapper.licence,
    }
    write_tensors(out, mapper.state_dict(), metadata)
    return mapper


def load(path: Path) -> WordMapper:
    """Read a file that `convert` wrote, in eval mode and frozen.

    Raises:
        UserError: the file is no word mapper, damaged, of a newer format, or its tensors are not those its kind has.
    """
    header, metadata = read_header(path, "word mapper", MAX_BYTES)
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path.name} is no word mapper of HybridBooth; make one with `hybridbooth convert-mapper`")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        found = metadata.get("format_version", "")[:20]
        raise UserError(f"{path.name} has word mapper format {found!r}, this pack reads {FORMAT_VERSION}; update the pack")
    with torch.device("meta"):
        mapper = _empty(metadata.get("kind", ""), header, path)
    expected = {name: list(tensor.shape) for name, tensor in mapper.state_dict().items()}
    mapper.load_state_dict(read_tensors(path, "word mapper", header, expected), assign=True)
    mapper.source, mapper.licence = (metadata.get(key, "")[:200] for key in ("source", "licence"))
    return mapper.eval().requires_grad_(False)


def _empty(kind: str, header: dict[str, dict], path: Path) -> WordMapper:
    if kind == EliteMapper.kind:
        return EliteMapper()
    if kind not in ACTIVATIONS:
        raise UserError(f"{path.name} holds a word mapper of the kind {kind[:20]!r}, which this pack does not know; update the pack")
    shapes = [header[name]["shape"] for k in range(MAX_LAYERS) if (name := f"layers.{k}.weight") in header]
    if not shapes or not all(len(shape) == 2 and all(isinstance(n, int) and 0 < n <= 65536 for n in shape) for shape in shapes):
        raise UserError(f"the layers in {path.name} are not those of a word mapper; convert the published file again")
    try:
        return SingleWordMapper(kind, [shapes[0][1], *(shape[0] for shape in shapes)])
    except ValueError as error:
        raise UserError(f"{path.name} is no word mapper for CLIP ViT-L/14 ({error}); convert the published file again") from error


def _published(path: Path) -> Any:
    """What a published file holds: tables of tensors."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"the file {path.name} cannot be read ({error.strerror or error}); check its name and place") from error
    if size > MAX_PUBLISHED:
        raise UserError(f"{path.name} has {size} bytes, a published mapper at most {MAX_PUBLISHED}; this is another kind of file")
    if path.suffix.lower() == ".safetensors":
        read_header(path, "published mapper", MAX_PUBLISHED)
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path.name} is damaged or truncated ({error}); get it again") from error
    if tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2]) < _SAFE_TORCH:
        raise UserError(f"reading {path.suffix or 'such'} files safely needs torch 2.6 or newer, found {torch.__version__}; update torch")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path.name} is no file of weights alone: it is damaged, or reading it would run code of whoever made it; get the file from "
            "its authors"
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{path.name} is damaged or no file of torch ({type(error).__name__}); get it again") from error


def summary(mapper: WordMapper) -> str:
    """One line for a person."""
    parameters = sum(parameter.numel() for parameter in mapper.parameters()) / 1e6
    licence = mapper.licence or "not said in the file"
    return f"{mapper.source or 'unknown source'} ({mapper.kind}, {parameters:.3g} M parameters); licence: {licence}"
