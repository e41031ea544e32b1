"""A CLIP that knows `<name>`: its tokenizer inserts the subject's token embeddings there, so that any node can encode the prompt.

The outer tokenizer, which a CLIP calls, replaces `<name>` by the private name of an embedding, and the inner one resolves that. Other
packs' encoders exchange the inner one's method, or call it themselves; so both replace names.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import copy
import re
from typing import Any

from torch import Tensor

from ...hybridbooth_core.bases import family_of_width
from ...hybridbooth_core.files.subject import Subject, check_name
from ...hybridbooth_core.models.adapter import Reader, check_family
from ...hybridbooth_core.models.prompts import find_name, split_prompt, tags
from .base_model import check_clip, embedding_width
from .notices import notify
from .text import token_rows

_PRIVATE = "hybridbooth.subject."  # cannot clash: a subject's name has no dot
DROPPED = (
    "the encoder of this node ignores the subject's embeddings, so {names} is not in the image; use CLIP Text Encode, or another parser "
    "of this encoder"
)

Part = Tensor | str | tuple[Tensor, str]
"""What a name stands for: token embeddings [n, d], a text, or embeddings with a text after them."""


def with_subject(clip: Any, subject: Subject, name: str, strength: float) -> Any:
    """A clone of `clip` whose prompts may use `<name>`, in addition to earlier subjects.

    Raises:
        UserError: the name is invalid, the subject has another embedding width, the CLIP is not Stable Diffusion 1.5's, or the strength
            is not 1 for a subject without class noun.
    """
    name = check_name(name)
    check_clip(clip)
    width = embedding_width(clip)
    reader = Reader("this CLIP", family_of_width(width), width)
    check_family(reader, "the subject", subject.embeddings.shape[1], subject.info.family, subject.info.base_model)
    return with_pieces(clip, name, _at_strength(clip, subject, strength))


def with_pieces(clip: Any, name: str, piece: Part) -> Any:
    """A clone of `clip` whose prompts may use `<name>` for these pieces, in addition to earlier subjects."""
    patched = clip.clone()
    subjects = {**getattr(clip.tokenizer, "hybridbooth_subjects", {}), name: piece}
    patched.tokenizer = _derived(clip.tokenizer, _OuterTokenizer, subjects)
    inner = _derived(clip.tokenizer.clip_l, _InnerTokenizer, subjects)
    inner.embedding_directory = inner.embedding_directory or []  # without a directory, ComfyUI resolves no embeddings
    patched.tokenizer.clip_l = inner
    return patched


def _at_strength(clip: Any, subject: Subject, strength: float) -> Tensor | str:
    """The subject's embeddings at a strength, or at strength 0 its class noun as text."""
    noun = re.sub(r"[^\w\s'-]", " ", subject.info.class_noun).strip()  # from an untrusted file: remove prompt syntax
    embeddings = subject.at_strength(strength, token_rows(clip, noun) if noun else None)
    return noun if isinstance(embeddings, str) else embeddings


def _derived(tokenizer: Any, mixin: type, subjects: dict[str, Part]) -> Any:
    """A copy of a tokenizer that knows these subjects."""
    copied: Any = copy.copy(tokenizer)
    if not isinstance(tokenizer, mixin):
        copied.__class__ = type(f"Subjects{type(tokenizer).__name__}", (mixin, type(tokenizer)), {})
    copied.hybridbooth_subjects = subjects
    return copied


def _placed(text: Any, subjects: dict[str, Part]) -> Any:
    """The text, or each of several, with `<name>` replaced by private names of embeddings."""
    if not isinstance(text, str):
        return [_placed(part, subjects) for part in text] if isinstance(text, list) else text
    marks = {name: _mark(name, piece) for name, piece in subjects.items()}
    return "".join(str(piece) for piece in split_prompt(text, marks, weighted=True))


def _mark(name: str, piece: Part) -> str:
    if isinstance(piece, str):
        return f" {piece} "
    return f" embedding:{_private(name)} " + (f"{piece[1]} " if isinstance(piece, tuple) else "")


def _private(name: str) -> str:
    """A name that every parser of prompts reads as one word: hexadecimal digits."""
    return _PRIVATE + name.encode().hex()


class _OuterTokenizer:
    """Mixin of the tokenizer that a CLIP calls."""

    hybridbooth_subjects: dict[str, Part]

    def tokenize_with_weights(self, text: Any, *args: Any, **kwargs: Any) -> Any:
        subjects = self.hybridbooth_subjects
        tokens = super().tokenize_with_weights(_placed(text, subjects), *args, **kwargs)  # type: ignore[misc]
        named = {find_name(tag.name, subjects) for tag in tags(text)} if isinstance(text, str) else set()
        wanted = [f"<{name}>" for name in named if isinstance(subjects.get(name or ""), Tensor | tuple)]
        if wanted and not _holds_embeddings(tokens):
            notify(DROPPED.format(names=", ".join(sorted(wanted))))
        return tokens


class _InnerTokenizer:
    """Mixin of a text encoder's tokenizer: resolves the private names to embeddings."""

    embedding_directory: Any
    hybridbooth_subjects: dict[str, Part]

    def tokenize_with_weights(self, text: Any, *args: Any, **kwargs: Any) -> Any:
        return super().tokenize_with_weights(_placed(text, self.hybridbooth_subjects), *args, **kwargs)  # type: ignore[misc]

    def _try_get_embedding(self, embedding_name: str) -> tuple:
        found = super()._try_get_embedding(embedding_name)  # type: ignore[misc]
        pieces = {name: piece[0] if isinstance(piece, tuple) else piece for name, piece in self.hybridbooth_subjects.items()}
        private = {_private(name): piece for name, piece in pieces.items()}
        embeddings = private.get(embedding_name.split()[0].rstrip(",")) if embedding_name.startswith(_PRIVATE) else None
        return found if embeddings is None else (embeddings, *found[1:])


def _holds_embeddings(tokens: Any) -> bool:
    """Whether a tokenizer's output, lists in lists or dictionaries, holds an embedding."""
    if isinstance(tokens, dict):
        return any(map(_holds_embeddings, tokens.values()))
    return isinstance(tokens, Tensor) or (isinstance(tokens, list | tuple) and any(map(_holds_embeddings, tokens)))
