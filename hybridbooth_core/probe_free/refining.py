"""Any words brought closer to an image: of a probe-free start, of a public mapper, or of a subject made for another checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ..encoders.features import Reference
from ..errors import UserError
from ..files.subject import Subject
from ..models.adapter import DiffusionModel, class_embedding
from ..refine.personalize import Personalization, personalization
from ..refine.refine import RefineConfig, refine

REFINING = RefineConfig(mode="words", steps=30, step_size=0.2, validation=4)
"""What suits words that no probe has guessed: they have far to go, so that the best step is nearly always the last, and a few rows of
validation tell it. Chosen on tune creatures by benchmarks/probe_free.py."""


def refine_subject(
    model: DiffusionModel,
    ref: Reference,
    subject: Subject,
    config: RefineConfig = REFINING,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Personalization:
    """A subject's words after some steps on the words themselves; what else is known of the subject stays with it.

    Args:
        config: in the mode "words" (or "auto").
        on_step: as in `refine`.
    Raises:
        UserError: words of another width than the model's, another mode, or what `refine` raises.
    """
    width = subject.embeddings.shape[1]
    if width != model.embedding_width:
        raise UserError(
            f"the subject's words have width {width}, but {model.name} reads words of width {model.embedding_width}; use a subject made "
            "for this family of models"
        )
    with torch.no_grad():
        noun = class_embedding(model, subject.info.class_noun) if subject.info.class_noun else subject.embeddings[-1]
    result = refine(model, ref, noun, config, start=subject.embeddings.to(model.device), on_step=on_step)
    return personalization(model, ref, replace(subject.info, method=subject.info.method or result.mode), config, result)
