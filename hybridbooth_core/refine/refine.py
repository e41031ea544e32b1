"""Refines a subject's token embeddings by a few gradient steps on the frozen model's denoising loss.

The update rule optimizes the embeddings themselves or residuals on the probe (the paper's form). The result is always embeddings: probe
and model do not change.

Axes: n token embeddings, d their width.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..encoders.features import Reference
from ..errors import UserError
from ..models.adapter import DiffusionModel
from ..models.memory import MemoryPlan, memory_estimate, memory_plans, use_plan, with_fallbacks
from ..models.peak_memory import PeakMemory, watch_peak
from ..models.progress import OnStep, Step
from ..models.seeds import refine_generator
from ..probe.probe import Features, Probe
from .config import NEAR_STEPS, Mode, RefineConfig
from .task import Task
from .unlikeness import Decision, decide, gradient_norm
from .updates import EmbeddingUpdate, UpdateRule, update_rule

log = logging.getLogger("hybridbooth")

__all__ = ["Mode", "RefineConfig", "Refinement", "Task", "refine"]

VALIDATE_EVERY = 5
"""Steps between two measurements on the validation set, about."""


@dataclass(frozen=True, eq=False)
class Refinement:
    """The result of a refinement. `validation[i]` is the validation loss after `validated[i]` steps, from the start to the end."""

    embeddings: Tensor  # [n, d] float32 on the CPU, after the last step
    start: Tensor  # [n, d]
    losses: list[float]  # training losses of the steps
    validation: list[float]
    validated: list[int]
    relative_changes: list[float]  # |e_i - e_0| / |e_0| after 1, 2 ... steps
    step_size: float
    mode: Mode  # never "auto"
    decision: Decision
    plan: MemoryPlan
    memory: PeakMemory | None  # of the steps; None without steps, or if the platform cannot measure it
    memory_estimate: int | None  # estimated bytes of a step, None if the model does not estimate memory

    @property
    def relative_change(self) -> float:
        """|e - e_0| / |e_0| of the result."""
        return _relative(self.embeddings, self.start)


def refine(
    model: DiffusionModel,
    ref: Reference,
    noun: Tensor,
    config: RefineConfig,
    probe: Probe | None = None,
    features: Features | None = None,
    start: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Refinement:
    """Refines the token embeddings of one subject.

    Args:
        noun: the class noun's embedding [d].
        probe, features: predict the start, averaged over the images. Required unless `start` is given.
        start: initial embeddings [n, d]; requires the mode "words".
        on_step: called after every step with its loss and the embeddings; may raise to stop.
    Raises:
        UserError: the mode needs something that is missing, the loss of the start is not finite, or memory does not suffice for one sample.
    """
    config = config.resolved

    def attempt(plan: MemoryPlan) -> Refinement:
        with torch.enable_grad(), use_plan(model, plan), update_rule(config, probe, features, noun, start) as rule:
            task = Task(model, ref, config, plan)
            return _run(steps(task, rule, probe if start is None else None, on_step), task)

    return with_fallbacks(model, memory_plans(config.batch, model.image_size), attempt)


def _run(procedure: Steps, task: Task) -> Refinement:
    """Runs `steps` of one subject."""
    result = None
    while True:
        try:
            request = procedure.send(result)
        except StopIteration as done:
            return done.value
        result = (
            task.validate(request.embeddings)
            if isinstance(request, ValidationRequest)
            else task.gradient(request.embeddings, request.t, request.noise, request.step)
        )


@dataclass(frozen=True, eq=False)
class ValidationRequest:
    """Requests `Task.validate` of these embeddings."""

    embeddings: Tensor


@dataclass(frozen=True, eq=False)
class GradientRequest:
    """Requests `Task.gradient` of these embeddings over these samples."""

    embeddings: Tensor
    t: Tensor
    noise: Tensor
    step: int


Steps = Generator[ValidationRequest | GradientRequest, Any, Refinement]


def steps(task: Task, rule: UpdateRule, probe: Probe | None = None, on_step: OnStep | None = None) -> Steps:
    """The refinement of one subject as a generator that yields its requests to the model, so that several subjects can share batches.

    The first step's gradient decides the number of steps and the anchor, unless the configuration gives them.
    """
    config, embeddings = task.config, _current(rule, task.plan)
    start = found = _copy(embeddings)
    losses, changes, validation, validated = [], [], [(yield ValidationRequest(embeddings))], [0]
    if not _finite(validation[0], start):
        raise UserError("the denoising loss of this image is not finite with this model; check the image and the checkpoint")
    used = watch_peak(task.model.device)
    decision = Decision(NEAR_STEPS if config.steps is None else config.steps, config.anchor or 0.0)
    while len(losses) < decision.steps:
        step = len(losses)
        loss, gradient = yield GradientRequest(embeddings, *task.sample(config.batch, refine_generator(config.seed, step)), step)
        if step == 0 and isinstance(rule, EmbeddingUpdate):
            if probe is not None:
                decision = decide(config, gradient_norm(gradient, rule.norm), probe.config.gradient_norms, probe.config.weak)
            rule.anchor = decision.anchor
        rule.step(embeddings, gradient)
        embeddings = _current(rule, task.plan)
        if not _finite(loss.item(), embeddings):
            log.warning("the loss is not finite after %d steps; the embeddings before are kept", step)
            break
        found = _copy(embeddings)
        losses.append(loss.item())
        changes.append(_relative(found, start))
        if len(losses) in _marks(decision.steps):
            validation.append((yield ValidationRequest(embeddings)))
            validated.append(len(losses))
        if on_step:
            on_step(Step(len(losses), decision.steps, losses[-1], lambda found=found: found))
    memory = used() if losses else None
    return Refinement(
        found.cpu().float(), start.cpu().float(), losses, validation, validated, changes, rule.step_size, config.mode, decision, task.plan,
        memory, memory_estimate(task.model, task.plan),
    )  # fmt: skip


def _marks(count: int) -> list[int]:
    """The steps after which the validation loss is measured: evenly spaced, about `VALIDATE_EVERY` apart, the last one included."""
    parts = max(1, round(count / VALIDATE_EVERY))
    return [round(count * part / parts) for part in range(1, parts + 1)]


def _finite(loss: float, embeddings: Tensor) -> bool:
    return math.isfinite(loss) and bool(torch.isfinite(embeddings).all())


def _current(rule: UpdateRule, plan: MemoryPlan) -> Tensor:
    """The current embeddings with their graph, checkpointed if the plan says so."""
    return checkpoint(rule.embeddings, use_reentrant=False, preserve_rng_state=False) if plan.checkpointing else rule.embeddings()


def _copy(embeddings: Tensor) -> Tensor:
    return embeddings.detach().clone()  # a copy, since the optimizer changes the leaf of the mode "words" in place


def _relative(embeddings: Tensor, start: Tensor) -> float:
    return ((embeddings - start).norm() / start.norm()).item()
