"""Refines a subject's token embeddings by a few gradient steps on the frozen model's denoising loss.

The update rule optimizes the embeddings themselves or residuals on the probe (the paper's form). The result is always embeddings: probe
and model do not change.

Axes: n token embeddings, d their width.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
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
from .config import Mode, RefineConfig
from .task import TEMPLATES, Task
from .updates import UpdateRule, update_rule

__all__ = ["TEMPLATES", "Mode", "RefineConfig", "Refinement", "Task", "refine"]

STRETCHES = (0.5, 1.5, 2.0)  # factors of the line search


@dataclass(frozen=True, eq=False)
class Refinement:
    """The result of a refinement. `validation[i]` is the validation loss after i steps; i = 0 is the start."""

    embeddings: Tensor  # [n, d] float32 on the CPU, of the best step
    start: Tensor  # [n, d]
    losses: list[float]  # training losses of the steps
    validation: list[float]
    relative_changes: list[float]  # |e_i - e_0| / |e_0| after 1, 2 ... steps
    best_step: int
    stretch: float  # the line search's factor on the change of the best step
    step_size: float
    mode: Mode  # never "auto"
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
        on_step: called after every step with the validation loss and the embeddings; may raise to stop.
    Raises:
        UserError: the mode needs something that is missing, the loss of the start is not finite, or memory does not suffice for one sample.
    """
    learned = probe is not None and probe.learned_optimizer is not None
    config = config.resolved("words" if start is not None else "learned" if learned else "residual")

    def attempt(plan: MemoryPlan) -> Refinement:
        with torch.enable_grad(), use_plan(model, plan), update_rule(config, probe, features, noun, start) as rule:
            return _run(Task(model, ref, config, plan), rule, on_step)

    return with_fallbacks(model, memory_plans(config.batch, model.image_size), attempt)


def _run(task: Task, rule: UpdateRule, on_step: OnStep | None) -> Refinement:
    """Runs `steps` of one subject."""
    procedure, result = steps(task, rule, on_step), None
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


def steps(task: Task, rule: UpdateRule, on_step: OnStep | None = None) -> Steps:
    """The refinement of one subject as a generator that yields its requests to the model, so that several subjects can share batches."""
    config = task.config
    embeddings = _current(rule, task.plan)
    history, losses, validation = [_copy(embeddings)], [], [(yield ValidationRequest(embeddings))]
    used = watch_peak(task.model.device)
    for step in range(config.steps):
        loss, gradient = yield GradientRequest(embeddings, *task.sample(config.batch, refine_generator(config.seed, step)), step)
        if not bool(torch.isfinite(loss)):
            break  # `_best` returns the best finite step
        rule.step(embeddings, gradient)
        embeddings = _current(rule, task.plan)
        history.append(_copy(embeddings))
        losses.append(loss.item())
        validation.append((yield ValidationRequest(embeddings)))
        if on_step:
            on_step(Step(step + 1, config.steps, validation[-1], lambda found=history[-1]: found))
    memory = used() if losses else None
    best, stretch, found = yield from _best(history, validation, config.mode)
    relative_changes = [_relative(embeddings, history[0]) for embeddings in history[1:]]
    return Refinement(
        found.cpu().float(), history[0].cpu().float(), losses, validation, relative_changes, best, stretch, rule.step_size, config.mode,
        task.plan, memory, memory_estimate(task.model, task.plan),
    )  # fmt: skip


def _current(rule: UpdateRule, plan: MemoryPlan) -> Tensor:
    """The current embeddings with their graph, checkpointed if the plan says so."""
    return checkpoint(rule.embeddings, use_reentrant=False, preserve_rng_state=False) if plan.checkpointing else rule.embeddings()


def _copy(embeddings: Tensor) -> Tensor:
    return embeddings.detach().clone()  # a copy, since the optimizer changes the leaf of the mode "words" in place


def _best(history: Sequence[Tensor], validation: list[float], mode: Mode) -> Generator[ValidationRequest, float, tuple[int, float, Tensor]]:
    """Selects the step with the lowest validation loss, including the start, then searches along its change.

    Skips the line search for learned updates, whose length was trained on other images.

    Returns:
        The best step, the factor on its change, and the embeddings [n, d].
    """
    finite = [i for i, (v, w) in enumerate(zip(validation, history, strict=True)) if math.isfinite(v) and bool(torch.isfinite(w).all())]
    if not finite:
        raise UserError("the denoising loss of this image is not finite with this model; check the image and the checkpoint")
    best = min(finite, key=lambda i: validation[i])
    start, found, stretch, lowest = history[0], history[best], 1.0, validation[best]
    if best > 0:
        for factor in () if mode == "learned" else STRETCHES:
            candidate = start + factor * (history[best] - start)
            loss = yield ValidationRequest(candidate)
            if loss < lowest:
                found, stretch, lowest = candidate, factor, loss
    return best, stretch, found


def _relative(embeddings: Tensor, start: Tensor) -> float:
    return ((embeddings - start).norm() / start.norm()).item()
