"""Refines an existing subject on its embeddings: a probe-free one, a mapper's, or one made for another checkpoint."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..encoders.features import Reference
from ..files.subject import Subject
from ..models.adapter import DiffusionModel, check_family, class_embedding
from ..models.progress import OnStep
from ..refine.personalize import Personalization, personalization
from ..refine.refine import RefineConfig, refine

STEPS, STEP_SIZE = 30, 0.2
REFINING = RefineConfig(mode="words", steps=STEPS, step_size=STEP_SIZE)
"""Defaults for initial embeddings that no probe predicted: they need many steps. Chosen by benchmarks/probe_free.py."""


def refine_subject(
    model: DiffusionModel,
    ref: Reference,
    subject: Subject,
    config: RefineConfig = REFINING,
    on_step: OnStep | None = None,
) -> Personalization:
    """Refines a subject's token embeddings and keeps its other metadata.

    Args:
        config: its mode must be "words" or "auto".
        on_step: as in `refine`.
    Raises:
        UserError: the subject is for another family of models, the mode is another one, or `refine` raises.
    """
    check_family(model, "the subject", subject.embeddings.shape[1], subject.info.family, subject.info.base_model)
    with torch.no_grad():
        noun = class_embedding(model, subject.info.class_noun) if subject.info.class_noun else subject.embeddings[-1]
    result = refine(model, ref, noun, config, start=subject.embeddings.to(model.device), on_step=on_step)
    return personalization(model, ref, replace(subject.info, method=subject.info.method or result.mode), config, result)
