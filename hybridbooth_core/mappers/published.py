"""Detects the layout of a published mapper by its tensors' names, and builds the mapper."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..errors import UserError
from .elite import EliteMapper
from .mapper import Mapper
from .single_word import CLIP_WIDTH, SingleWordMapper

SOURCES = {
    "elite": ("ELITE's global mapper", "Apache-2.0"),
    "phi": ("SEARLE or LinCIR", "CC-BY-NC-4.0"),
    "pic2word": ("Pic2Word", "Apache-2.0"),
}
"""Kind to (authors' method, licence of their repository)."""

_ELITE = re.compile(r"mapping_(patch_)?([0-4])\.([01346])\.(weight|bias)")
_ELITE_ATTENTION = re.compile(r"\w+_to_[kv]\.weight")
_PHI = re.compile(r"layers\.(0|3|6)\.(weight|bias)")  # indices 1, 2, 4 and 5 are activations and dropout
_PIC2WORD = re.compile(r"layers\.(\d)\.0\.(weight|bias)|fc_out\.(weight|bias)")


def recognise(content: Any) -> tuple[Mapper, int]:
    """The mapper in a published file, and the number of tensors that were ignored.

    Args:
        content: a dictionary of tensors, or a dictionary that contains one, as training scripts save it.
    Raises:
        UserError: the layout is unknown, or its sizes are wrong.
    """
    for tensors in _tables(content):
        rest: dict[str, Tensor] = {}
        if any(_ELITE.fullmatch(name) for name in tensors):
            own = {_elite_name(m): t for name, t in tensors.items() if (m := _ELITE.fullmatch(name))}
            rest = {name: t for name, t in tensors.items() if not _ELITE.fullmatch(name)}
            if all(_ELITE_ATTENTION.fullmatch(name) for name in rest):
                return _filled(EliteMapper(), own), len(rest)
        elif "fc_out.weight" in tensors and all(_PIC2WORD.fullmatch(name) for name in tensors):
            last = len(tensors) // 2 - 1
            return _single("pic2word", {_numbered(_PIC2WORD.fullmatch(name), 1, last): t for name, t in tensors.items()}), 0
        elif "layers.6.weight" in tensors and all(_PHI.fullmatch(name) for name in tensors):
            return _single("phi", {_numbered(_PHI.fullmatch(name), 3, 2): t for name, t in tensors.items()}), 0
    raise UserError(
        "expected the weights of ELITE's global mapper (mapping_0.0.weight ...), of SEARLE or LinCIR (layers.0.weight ...) or of Pic2Word "
        f"(fc_out.weight ...), found {_names(content)}; choose a file published by their authors"
    )


def _tables(content: Any) -> Iterator[dict[str, Tensor]]:
    """The dictionaries that contain only tensors: `content` itself or its values. Removes DistributedDataParallel's prefix `module.`."""
    if not isinstance(content, Mapping):
        return
    for table in (content, *content.values()):
        if isinstance(table, Mapping) and table and all(isinstance(k, str) and isinstance(t, Tensor) for k, t in table.items()):
            yield {name.removeprefix("module."): tensor for name, tensor in table.items()}


def _elite_name(match: re.Match[str]) -> str:
    return f"{'patches' if match[1] else 'whole'}.{match[2]}.{match[3]}.{match[4]}"


def _numbered(match: re.Match[str] | None, spacing: int, last: int) -> str:
    """`layers.<k>.weight`, where k counts linear layers; `fc_out` is the last."""
    assert match is not None
    kind = next(group for group in reversed(match.groups()) if group)
    return f"layers.{last if match[0].startswith('fc_out') else int(match[1]) // spacing}.{kind}"


def _single(kind: str, tensors: dict[str, Tensor]) -> Mapper:
    sizes = [CLIP_WIDTH, *(tensors[f"layers.{k}.bias"].numel() for k in range(len(tensors) // 2) if f"layers.{k}.bias" in tensors)]
    if len(sizes) != len(tensors) // 2 + 1 or sizes[-1] != CLIP_WIDTH:
        raise UserError(
            f"expected layers from CLIP ViT-L/14's {CLIP_WIDTH} dimensions to embeddings of width {CLIP_WIDTH}, found widths "
            f"{', '.join(map(str, sizes[1:]))}; choose the file for ViT-L/14"
        )
    return _filled(SingleWordMapper(kind, sizes), tensors)


def _filled(mapper: Mapper, tensors: Mapping[str, Tensor]) -> Mapper:
    """The mapper with these weights in float32, in eval mode and frozen."""
    wanted = {name: list(tensor.shape) for name, tensor in mapper.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in tensors.items()}
    wrong = next((name for name in {**wanted, **found} if wanted.get(name) != found.get(name)), None)
    if wrong is not None or not all(tensor.is_floating_point() for tensor in tensors.values()):
        raise UserError(
            f"expected {wrong or 'floating-point tensors'} {wanted.get(wrong or '', '')} in a {SOURCES[mapper.kind][0]} file for CLIP "
            f"ViT-L/14, found {found.get(wrong or '', 'integers')}; choose the file for ViT-L/14"
        )
    mapper.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    mapper.source, mapper.licence = SOURCES[mapper.kind]
    return mapper.eval().requires_grad_(False)


def _names(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    some = ", ".join(repr(str(name)[:60]) for name in list(content)[:3])
    return f"{some} and {len(content) - 3} more" if len(content) > 3 else some or "nothing"
