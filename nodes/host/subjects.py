"""A CLIP that knows `<name>`: its tokenizer inserts the subject's token embeddings there, so stock nodes can encode the prompt."""
# pyright: reportMissingImports=false

from __future__ import annotations

import copy
import re
from typing import Any

from torch import Tensor

from ...hybridbooth_core.bases import family_of_width
from ...hybridbooth_core.files.subject import Subject, check_name
from ...hybridbooth_core.models.adapter import Reader, check_family, split_prompt
from .base_model import check_clip, embedding_width
from .text import token_rows

_PRIVATE = "hybridbooth.subject."  # cannot clash: a subject's name has no dot


def with_subject(clip: Any, subject: Subject, name: str, strength: float) -> Any:
    """A clone of `clip` whose prompts may use `<name>`, in addition to earlier subjects.

    Raises:
        UserError: the name is invalid, the subject has another embedding width, the CLIP is not Stable Diffusion 1.5's, or the strength
            is not 1 for a subject without class noun.
    """
    check_name(name)
    check_clip(clip)
    width = embedding_width(clip)
    reader = Reader("this CLIP", family_of_width(width), width)
    check_family(reader, "the subject", subject.embeddings.shape[1], subject.info.family, subject.info.base_model)
    patched = clip.clone()
    patched.tokenizer = copy.copy(clip.tokenizer)
    patched.tokenizer.clip_l = _with_subject(clip.tokenizer.clip_l, name, _at_strength(clip, subject, strength))
    return patched


def _at_strength(clip: Any, subject: Subject, strength: float) -> Tensor | str:
    """The subject's embeddings at a strength, or at strength 0 its class noun as text."""
    noun = re.sub(r"[^\w\s'-]", " ", subject.info.class_noun).strip()  # from an untrusted file: remove prompt syntax
    embeddings = subject.at_strength(strength, token_rows(clip, noun) if noun else None)
    return noun if isinstance(embeddings, str) else embeddings


class _SubjectTokenizer:
    """Mixin of a CLIP's tokenizer: replaces `<name>` by a private embedding name, and resolves that to the subject's embeddings."""

    embedding_directory: Any
    hybridbooth_subjects: dict[str, Tensor | str]

    def tokenize_with_weights(self, text: str, *args: Any, **kwargs: Any) -> Any:
        subjects = self.hybridbooth_subjects
        marks = {n: f" {w} " if isinstance(w, str) else f" embedding:{_PRIVATE}{n} " for n, w in subjects.items()}
        placed = "".join(str(piece) for piece in split_prompt(text, marks))
        return super().tokenize_with_weights(placed, *args, **kwargs)  # type: ignore[misc]

    def _try_get_embedding(self, embedding_name: str) -> tuple:
        found = super()._try_get_embedding(embedding_name)  # type: ignore[misc]
        name = embedding_name.split()[0].removeprefix(_PRIVATE)
        embeddings = self.hybridbooth_subjects.get(name) if embedding_name.startswith(_PRIVATE) else None
        return found if embeddings is None else (embeddings, *found[1:])


def _with_subject(tokenizer: Any, name: str, embeddings: Tensor | str) -> Any:
    """A copy of a text encoder's tokenizer with one more subject."""
    copied: Any = copy.copy(tokenizer)
    if not isinstance(tokenizer, _SubjectTokenizer):
        copied.__class__ = type(f"Subjects{type(tokenizer).__name__}", (_SubjectTokenizer, type(tokenizer)), {})
    copied.embedding_directory = tokenizer.embedding_directory or []  # without a directory, ComfyUI resolves no embeddings
    copied.hybridbooth_subjects = {**getattr(tokenizer, "hybridbooth_subjects", {}), name: embeddings}
    return copied
