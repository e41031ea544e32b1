"""A CLIP that knows `<name>`: its tokenizer puts a subject's words where a prompt names it, and stock nodes do the rest."""
# pyright: reportMissingImports=false

from __future__ import annotations

import copy
import re
from typing import Any

from torch import Tensor

from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.files.subject import Subject, check_name
from ...hybridbooth_core.models.adapter import split_prompt
from .base_model import check_clip, embedding_width
from .text import word_rows

_PRIVATE = "hybridbooth.subject."  # no subject's name holds a dot, and no embedding file of a person is called so


def with_subject(clip: Any, subject: Subject, name: str, strength: float) -> Any:
    """A clone of `clip` whose prompts may name `<name>`, besides the subjects it knew before.

    Raises:
        UserError: a name that cannot stand in a prompt, words of another width, a CLIP of another family, or a strength other than 1
            for a subject whose class noun is not known.
    """
    check_name(name)
    check_clip(clip)
    width, found = embedding_width(clip), subject.embeddings.shape[1]
    if width != found:
        raise UserError(
            f"the subject's words have width {found}, but this CLIP's words have width {width}; use a subject made for this family of "
            "models"
        )
    patched = clip.clone()
    patched.tokenizer = copy.copy(clip.tokenizer)
    patched.tokenizer.clip_l = _reading(clip.tokenizer.clip_l, name, _words(clip, subject, strength))
    return patched


def _words(clip: Any, subject: Subject, strength: float) -> Tensor | str:
    """What stands for the subject in a prompt: its words, or at strength 0 its class noun as plain text."""
    noun = re.sub(r"[^\w\s'-]", " ", subject.info.class_noun).strip()  # from a stranger's file: no syntax of prompts
    embeddings = subject.at_strength(strength, word_rows(clip, noun) if noun else None)
    return noun if isinstance(embeddings, str) else embeddings


class _ReadsSubjects:
    """Mixed into the class of a CLIP's tokenizer: `<name>` becomes an embedding of a private name, and that name the subject's words."""

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


def _reading(tokenizer: Any, name: str, embeddings: Tensor | str) -> Any:
    """A copy of one text encoder's tokenizer that reads one subject more; the original stays as it is."""
    copied: Any = copy.copy(tokenizer)
    if not isinstance(tokenizer, _ReadsSubjects):
        copied.__class__ = type(f"Subjects{type(tokenizer).__name__}", (_ReadsSubjects, type(tokenizer)), {})
    copied.embedding_directory = tokenizer.embedding_directory or []  # where the host reads none, it would not read ours either
    copied.hybridbooth_subjects = {**getattr(tokenizer, "hybridbooth_subjects", {}), name: embeddings}
    return copied
