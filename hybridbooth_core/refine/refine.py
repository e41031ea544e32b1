"""A few steps that bring a probe's guess closer to the subject, through the frozen model's own denoising loss.

What moves is the words themselves, or the probe's K, Q and V by residuals (the paper's way). Whatever it was, the result is words: the
probe and the model are as they were.

Axes: n words, d their width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
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
from ..probe.probe import Features, Probe
from .config import Mode, RefineConfig
from .task import SEEDS, TEMPLATES, Task
from .updates import UpdateRule, update_rule

__all__ = ["SEEDS", "TEMPLATES", "Mode", "RefineConfig", "Refinement", "Task", "refine"]

STRETCHES = (0.5, 1.5, 2.0)  # of the line search


@dataclass(frozen=True, eq=False)
class Refinement:
    """What came out. `validation[i]` is the loss on the fixed set after i steps, i = 0 being the start."""

    embeddings: Tensor  # [n, d] float32 on the CPU, the best
    start: Tensor  # [n, d]
    losses: list[float]  # of the steps themselves, on their own noise
    validation: list[float]
    relative_changes: list[float]  # |e_i - e_0| / |e_0| after 1, 2 ... steps, kept or not
    best_step: int
    stretch: float  # the line search's factor on the displacement of the best step
    step_size: float
    mode: Mode  # what "auto" came to
    plan: MemoryPlan  # how it was fitted into memory
    memory: PeakMemory | None  # of the steps; None without steps, and where the platform cannot tell
    memory_estimate: int | None  # bytes that the model thought a step would take

    @property
    def relative_change(self) -> float:
        """|e - e_0| / |e_0|: how far the words that were kept are from the start."""
        return _relative(self.embeddings, self.start)


def refine(
    model: DiffusionModel,
    ref: Reference,
    noun: Tensor,
    config: RefineConfig,
    probe: Probe | None = None,
    features: Features | None = None,
    start: Tensor | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Refinement:
    """Refine the words of one subject.

    Args:
        noun: [d], the class word's embedding.
        probe, features: whose guess to start from; several images' guesses are averaged. All modes but "words" need them.
        start: [n, d], words to start from instead; "words" mode only.
        on_step: called after every step with (steps done, steps, validation loss); may raise to stop, and nothing is lost.
    Raises:
        UserError: a mode without what it needs, a loss that is not finite from the first step on, or too little memory even for one row.
    """
    learned = probe is not None and probe.learned_optimizer is not None
    config = config.settled("words" if start is not None else "learned" if learned else "residual")

    def attempt(plan: MemoryPlan) -> Refinement:
        with torch.enable_grad(), use_plan(model, plan), update_rule(config, probe, features, noun, start) as move:
            return _alone(Task(model, ref, config, plan), move, on_step)

    return with_fallbacks(model, memory_plans(config.batch, model.image_size), attempt)


def _alone(task: Task, move: UpdateRule, on_step: Callable[[int, int, float], None] | None) -> Refinement:
    procedure, answer = steps(task, move, on_step), None
    while True:
        try:
            request = procedure.send(answer)
        except StopIteration as done:
            return done.value
        answer = (
            task.validate(request.embeddings)
            if isinstance(request, ValidationRequest)
            else task.gradient(request.embeddings, request.t, request.noise, request.step)
        )


@dataclass(frozen=True, eq=False)
class ValidationRequest:
    """Asks for `Task.validate` of these words."""

    embeddings: Tensor


@dataclass(frozen=True, eq=False)
class GradientRequest:
    """Asks for `Task.gradient` of these words over these rows."""

    embeddings: Tensor
    t: Tensor
    noise: Tensor
    step: int


Steps = Generator[ValidationRequest | GradientRequest, Any, Refinement]


def steps(task: Task, move: UpdateRule, on_step: Callable[[int, int, float], None] | None = None) -> Steps:
    """The refinement of one subject as a procedure that asks for what the model has to compute, so that several may ask it at once."""
    config = task.config
    embeddings = _current(move, task.plan)
    kept, losses, validation = [_copy(embeddings)], [], [(yield ValidationRequest(embeddings))]
    used = watch_peak(task.model.device)
    for step in range(config.steps):
        loss, gradient = yield GradientRequest(embeddings, *task.rows(config.batch, _step_generator(config, step)), step)
        if not bool(torch.isfinite(loss)):
            break  # keep-best below returns the last good words
        move.step(embeddings, gradient)
        embeddings = _current(move, task.plan)
        kept.append(_copy(embeddings))
        losses.append(loss.item())
        validation.append((yield ValidationRequest(embeddings)))
        if on_step:
            on_step(step + 1, config.steps, validation[-1])
    memory = used() if losses else None
    best, stretch, found = yield from _best(kept, validation, config.mode)
    relative_changes = [_relative(embeddings, kept[0]) for embeddings in kept[1:]]
    return Refinement(
        found.cpu().float(), kept[0].cpu().float(), losses, validation, relative_changes, best, stretch, move.step_size, config.mode,
        task.plan, memory, memory_estimate(task.model, task.plan),
    )  # fmt: skip


def _current(move: UpdateRule, plan: MemoryPlan) -> Tensor:
    """The words as they are now, with their graph; the probe's part of it is not kept where memory is short."""
    return checkpoint(move.embeddings, use_reentrant=False, preserve_rng_state=False) if plan.checkpointing else move.embeddings()


def _copy(embeddings: Tensor) -> Tensor:
    return embeddings.detach().clone()  # of the words mode's leaf too, which the optimizer writes to


def _step_generator(config: RefineConfig, step: int) -> torch.Generator:
    return torch.Generator().manual_seed((config.seed * 1009 + step) % SEEDS)


def _best(kept: Sequence[Tensor], validation: list[float], mode: Mode) -> Generator[ValidationRequest, float, tuple[int, float, Tensor]]:
    """Keep-best over all steps, the start included, then a line search that stretches the best displacement.

    Learned steps are not stretched: they have their length from other images than this one.

    Returns:
        The best step, the stretch of its displacement, and the words [n, d].
    """
    finite = [i for i, (v, w) in enumerate(zip(validation, kept, strict=True)) if math.isfinite(v) and bool(torch.isfinite(w).all())]
    if not finite:
        raise UserError("the denoising loss of this image is not finite with this model; check the image and the checkpoint")
    best = min(finite, key=lambda i: validation[i])
    start, found, stretch, lowest = kept[0], kept[best], 1.0, validation[best]
    if best > 0:
        for factor in () if mode == "learned" else STRETCHES:
            loss = yield ValidationRequest(start + factor * (kept[best] - start))
            if loss < lowest:
                found, stretch, lowest = start + factor * (kept[best] - start), factor, loss
    return best, stretch, found


def _relative(embeddings: Tensor, start: Tensor) -> float:
    return ((embeddings - start).norm() / start.norm()).item()
