"""The subject: a handful of word embeddings and what is known about them, in one small file that every SD1.5 program can load.

The file holds exactly one tensor, `emb_params` [n, d]; everything else is metadata. Stock ComfyUI loads it as `embedding:name`,
AUTOMATIC1111 and Forge as an embedding, InvokeAI as a textual inversion, diffusers by
`load_textual_inversion(..., token="<name>")`. It never holds pixels or paths.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import UserError
from ..models.adapter import check_family
from ..models.prompts import MAX_NAME, plausible_name
from .modelspec import modelspec
from .safetensors import read_header, read_tensors, write_tensors

if TYPE_CHECKING:
    from ..models.adapter import DiffusionModel, Prompt

FORMAT_VERSION = 1
MAX_BYTES = 4 << 20
MAX_WORDS = 75
RISE, BEYOND = 0.7, 0.125  # of `reach`
_OLD_NAMES = {"class_noun": "class_word", "step_size": "effective_step", "relative_change": "displacement", "images": "pictures"}  # of 0.1
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}


def check_name(name: str) -> str:
    """The name in its composed form (NFC), if it can be both `<name>` in a prompt and the name of a file; UserError otherwise."""
    composed = unicodedata.normalize("NFC", name) if isinstance(name, str) else ""
    if not plausible_name(composed) or composed.casefold() in _RESERVED:
        raise UserError(
            f"a subject's name is 1 to {MAX_NAME} characters of any script, spaces too, without / \\ < > : ( ) [ ] {{ }} , . | * ? and "
            f"quotes, and no device name of Windows, found {str(name)[:80]!r}; choose such a name"
        )
    return composed


def reach(strength: float) -> float:
    """How far along the line from the class noun (0) over the subject (1) the embeddings of a strength lie.

    A subject appears late on that line, and beyond it loses its class, while nothing is gained (docs/results.md). So strengths below 1 are
    spread, and 2 is only an eighth beyond 1. Chosen on tune creatures of the miniature (benchmarks/strength.py).
    """
    return strength**RISE if strength <= 1 else 1 + BEYOND * (strength - 1)


@dataclass(frozen=True)
class SubjectInfo:
    """Where a subject came from. Every field is in the file's metadata; none is needed to use the embeddings."""

    class_noun: str = ""
    family: str = ""  # of base models, by its ModelSpec name; "" in files of 0.1
    base_model: str = ""
    base_fingerprint: str = ""
    probe: str = ""
    method: str = ""  # words, residual, paper_literal, the name of another method, or none
    steps: int = 0
    unlikeness: float = 0.0  # see refine.unlikeness; 0 if unknown
    step_size: float = 0.0
    relative_change: float = 0.0  # |e - e_0| / |e_0|
    seed: int = 0
    images: int = 0
    validation: list[float] = field(default_factory=list)  # loss on the fixed set
    validated: list[int] = field(default_factory=list)  # after how many steps; empty in files of 0.1: after 0, 1, 2 ...
    licence: str = ""


@dataclass(frozen=True, eq=False)
class Subject:
    """n token embeddings of width d, float32 on the CPU, and their provenance."""

    embeddings: Tensor
    info: SubjectInfo = SubjectInfo()

    def __post_init__(self):
        shape = list(self.embeddings.shape)
        if len(shape) != 2 or not 1 <= shape[0] <= MAX_WORDS or shape[1] < 1:
            raise ValueError(f"expected token embeddings [1 to {MAX_WORDS}, d], found {shape}")
        if not bool(torch.isfinite(self.embeddings).all()):
            raise ValueError("expected finite token embeddings, found NaN or infinity")

    def save(self, path: str | Path, overwrite: bool = False, half: bool = False) -> None:
        """Write the file. UserError: it exists and `overwrite` is off, or the place cannot be written. `half` stores float16."""
        path = Path(path)
        check_name(path.stem)
        if path.exists() and not overwrite:
            raise UserError(f"{path.name} exists already; choose another name or allow overwriting")
        metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in asdict(self.info).items()}
        metadata |= {
            "format": "hybridbooth.subject",
            "format_version": str(FORMAT_VERSION),
            "width": str(self.embeddings.shape[1]),
            **modelspec(path.stem, f"<{path.stem}>", self.info.family, "textual-inversion"),
        }
        embeddings = self.embeddings.half() if half else self.embeddings.float()
        write_tensors(path, {"emb_params": embeddings}, metadata)

    @staticmethod
    def load(path: str | Path, width: int | None = None) -> Subject:
        """Read a file made by us or by any trainer that writes `emb_params`.

        Args:
            width: d of the model that the embeddings are for; another width is refused.
        Raises:
            UserError: the file is damaged, of another kind, or of another width.
        """
        path = Path(path)
        header, metadata = read_header(path, "subject file", MAX_BYTES)
        if len(header) > 1:
            raise UserError(f"a subject file holds one tensor, emb_params, but {path.name} holds {len(header)}; it is another kind of file")
        embeddings = read_tensors(path, "subject file", header, {"emb_params": [-1, -1]})["emb_params"]
        if width is not None and embeddings.shape[1] != width:
            raise UserError(
                f"the embeddings in {path.name} have width {embeddings.shape[1]}, but this model's have width {width}; "
                "use a subject made for this family of models"
            )
        if not 1 <= len(embeddings) <= MAX_WORDS or embeddings.shape[1] == 0:
            found = list(embeddings.shape)
            raise UserError(f"expected 1 to {MAX_WORDS} embeddings in {path.name}, found {found}; it is another kind of file")
        return Subject(embeddings, _info(metadata))

    def at_strength(self, strength: float, class_embedding: Tensor | None) -> Tensor | str:
        """The embeddings [n, d] on the line from the class noun (0) to the subject (1); at 0 the class noun itself, as text.

        Args:
            strength: 0..2; above 1 exaggerates a little. See `reach`.
            class_embedding: [k, d], the rows of the class word's tokens; None if the file names no class word.
        Raises:
            UserError: the strength is out of range, or is not 1 for a subject without a class word (made by another program).
        """
        if not 0 <= strength <= 2:
            raise UserError(f"expected a strength from 0 (class noun) over 1 (subject) to 2, found {strength}")
        if strength != 1 and (not self.info.class_noun or class_embedding is None):
            raise UserError(f"the subject's file names no class noun, so it has no strength but 1 (found {strength:g}); set it to 1")
        if strength == 0:
            return self.info.class_noun
        if strength == 1 or class_embedding is None:
            return self.embeddings
        start = class_embedding.to(self.embeddings).mean(0)
        return start + reach(strength) * (self.embeddings - start)

    @contextmanager
    def applied(self, model: DiffusionModel, strength: float = 1.0) -> Iterator[Prompt]:
        """What `methods.artefact.Artefact` asks for: yields the embeddings (at strength 0 the class noun); the model never changes.

        Raises:
            UserError: the embeddings are for another family of models, or what `at_strength` raises.
        """
        check_family(model, "the subject", self.embeddings.shape[1], self.info.family, self.info.base_model)
        rows = model.token_embeddings(self.info.class_noun) if self.info.class_noun and strength != 1 else None
        yield [self.at_strength(strength, rows)]


def _info(metadata: dict[str, str]) -> SubjectInfo:
    """Provenance from metadata; a missing or damaged field keeps its default."""
    values = {}
    for f in fields(SubjectInfo):
        text = metadata.get(f.name, metadata.get(_OLD_NAMES.get(f.name, ""), ""))
        default = getattr(SubjectInfo(), f.name)
        if isinstance(default, str):
            values[f.name] = text[:4096]
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        numbers = value if isinstance(value, list) else [value]
        plain = all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 2**64 for v in numbers)
        if plain and isinstance(value, list) == isinstance(default, list):
            values[f.name] = value if isinstance(value, list) else type(default)(value)
    return SubjectInfo(**values)
