"""Measures, at the end of a training, the gradient norms with which `refine.unlikeness` compares a user's subject."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch

from ..models.seeds import refine_generator
from ..probe.probe import Probe
from ..refine.config import RefineConfig
from ..refine.task import Task
from ..refine.unlikeness import deciles, gradient_norm
from .callbacks import GridSubject
from .context import TrainingContext

SUBJECTS = 64

log = logging.getLogger("hybridbooth")


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


def with_gradient_norms(context: TrainingContext, probe: Probe, subjects: Sequence[GridSubject]) -> Probe:
    """The probe, whose configuration has the deciles of `gradient_norms`."""
    with torch.enable_grad():
        norms = gradient_norms(context, probe, subjects)
    if norms and bool(torch.isfinite(torch.tensor(norms)).all()):
        probe.config = replace(probe.config, gradient_norms=deciles(norms))
    else:
        log.warning("the probe's file will not say how unlike a subject is: there is no subject, or a gradient is not finite")
    return probe
