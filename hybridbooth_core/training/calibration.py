"""Measures, at the end of a training, what a refinement should know of the probe (`refine.unlikeness`).

How large a gradient is usual tells which subjects are unlike those of the training. Whether the probe is weak, so that even subjects like
those of its training need many steps, is measured on what a refinement never sees: another photo of the same subject.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import UserError
from ..models.seeds import refine_generator
from ..probe.probe import Probe
from ..refine.config import FAR_STEPS, NEAR_STEPS, RefineConfig
from ..refine.refine import refine
from ..refine.task import Task
from ..refine.unlikeness import ANCHOR, deciles, gradient_norm
from .callbacks import GridSubject
from .context import TrainingContext

SUBJECTS, PAIRS = 64, 16
"""Subjects whose gradients are measured, and those of them that are refined."""
SAMPLES = 16
"""Times and noises at which the loss of the other photo is measured."""

log = logging.getLogger("hybridbooth")


def calibrated(context: TrainingContext, probe: Probe, subjects: Sequence[GridSubject]) -> Probe:
    """The probe, whose configuration has the deciles of `gradient_norms` and says whether it is weak.

    What cannot be measured is logged and left out: a training must not be lost by it.
    """
    try:
        with torch.enable_grad():
            norms = gradient_norms(context, probe, subjects)
            if not norms or not bool(torch.isfinite(torch.tensor(norms)).all()):
                raise UserError("there is no subject, or a gradient is not finite")
            gains = free_gains(context, probe, [subject for subject in subjects if subject.other is not None][:PAIRS])
    except UserError as error:
        log.warning("the probe's file will not say how unlike a subject is: %s", error)
        return probe
    probe.config = replace(probe.config, gradient_norms=deciles(norms), weak=is_weak(gains))
    return probe


def gradient_norms(context: TrainingContext, probe: Probe, subjects: Sequence[GridSubject]) -> list[float]:
    """The dimensionless gradient norm of the first refinement step at the probe's prediction, for each subject."""
    config, norms = RefineConfig(), []
    for subject in subjects:
        with torch.no_grad():
            predicted = probe(subject.features, context.noun(subject.noun)).mean(0)
        task = Task(context.model, subject.ref, config)
        _, gradient = task.gradient(predicted, *task.sample(config.batch, refine_generator(config.seed, 0)), 0)
        norms.append(gradient_norm(gradient, probe.config.embedding_norm))
    return norms


def free_gains(context: TrainingContext, probe: Probe, subjects: Sequence[GridSubject]) -> Tensor:
    """By how much the loss on the other photo is lower after many free steps than after a few tied ones, for each subject [N]."""
    tied = RefineConfig(mode="words", steps=NEAR_STEPS, anchor=ANCHOR)
    free = RefineConfig(mode="words", steps=FAR_STEPS, anchor=0.0)
    gains = []
    for subject in subjects:
        assert subject.other is not None
        noun = context.noun(subject.noun)
        task = Task(context.model, subject.other, RefineConfig(caption=subject.caption, validation=SAMPLES))
        made = (refine(context.model, subject.ref, noun, config, probe, subject.features).embeddings for config in (tied, free))
        few, many = (task.validate(embeddings.to(context.model.device)) for embeddings in made)
        gains.append(few - many)
    return torch.tensor(gains, dtype=torch.float64)


def is_weak(gains: Tensor) -> bool:
    """Whether the mean of gains [N] is above 0."""
    return len(gains) > 1 and bool(gains.mean() > 0)
