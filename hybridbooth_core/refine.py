"""A few steps that bring a probe's guess closer to the subject, through the frozen model's own denoising loss.

What moves is the words themselves, or the probe's K, Q and V by residuals (the paper's way). Whatever it was, the result is words: the
probe and the model are as they were.

Axes: n words, d their width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .diffusion_model import DiffusionModel
from .errors import UserError
from .features import Reference
from .probe import Features, Probe
from .refine_config import Mode, RefineConfig
from .refine_moves import moving
from .refine_task import SEEDS, TEMPLATES, Task

__all__ = ["SEEDS", "TEMPLATES", "Mode", "RefineConfig", "Refinement", "Task", "refine"]

STRETCHES = (0.5, 1.5, 2.0)  # of the line search


@dataclass(frozen=True, eq=False)
class Refinement:
    """What came out. `validation[i]` is the loss on the fixed set after i steps, i = 0 being the start."""

    words: Tensor  # [n, d] float32 on the CPU, the best
    start: Tensor  # [n, d]
    losses: list[float]  # of the steps themselves, on their own noise
    validation: list[float]
    moves: list[float]  # |e_i - e_0| / |e_0| after 1, 2 ... steps, kept or not
    best_step: int
    stretch: float  # the line search's factor on the displacement of the best step
    effective_step: float
    mode: Mode  # what "auto" came to

    @property
    def displacement(self) -> float:
        """|e - e_0| / |e_0|: how far the words that were kept are from the start."""
        return _relative(self.words, self.start)


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
        probe, features: whose guess to start from; several pictures' guesses are averaged. All modes but "words" need them.
        start: [n, d], words to start from instead; "words" mode only.
        on_step: called after every step with (steps done, steps, validation loss); may raise to stop, and nothing is lost.
    Raises:
        UserError: a mode without what it needs, or a loss that is not finite from the first step on.
    """
    learned = probe is not None and probe.stepper is not None
    config = config.settled("words" if start is not None else "learned" if learned else "residual")
    with torch.enable_grad(), moving(config, probe, features, noun, start) as move:
        task = Task(model, ref, config)
        words = move.words().detach().clone()  # of the words mode's leaf too, which the optimizer writes to
        kept, losses, validation = [words], [], [task.validate(words)]
        for step in range(config.steps):
            loss = task.loss(move.words(), *task.rows(config.batch, _step_generator(config, step)), with_masks=True, step=step)
            if not bool(torch.isfinite(loss)):
                break  # keep-best below returns the last good words
            move.step(loss)
            words = move.words().detach().clone()
            kept.append(words)
            losses.append(loss.item())
            validation.append(task.validate(words))
            if on_step:
                on_step(step + 1, config.steps, validation[-1])
        return _best(task, kept, losses, validation, move.effective_step, config.mode)


def _step_generator(config: RefineConfig, step: int) -> torch.Generator:
    return torch.Generator().manual_seed((config.seed * 1009 + step) % SEEDS)


def _best(
    task: Task, kept: Sequence[Tensor], losses: list[float], validation: list[float], effective_step: float, mode: Mode
) -> Refinement:
    """Keep-best over all steps, the start included, then a line search that stretches the best displacement.

    Learned steps are not stretched: they have their length from other pictures than this one.
    """
    finite = [i for i, (v, w) in enumerate(zip(validation, kept, strict=True)) if math.isfinite(v) and bool(torch.isfinite(w).all())]
    if not finite:
        raise UserError("the denoising loss of this picture is not finite with this model; check the picture and the checkpoint")
    best = min(finite, key=lambda i: validation[i])
    start, found, stretch, lowest = kept[0], kept[best], 1.0, validation[best]
    if best > 0:
        for factor in () if mode == "learned" else STRETCHES:
            loss = task.validate(start + factor * (kept[best] - start))
            if loss < lowest:
                found, stretch, lowest = start + factor * (kept[best] - start), factor, loss
    moves = [_relative(words, start) for words in kept[1:]]
    return Refinement(found.cpu().float(), start.cpu().float(), losses, validation, moves, best, stretch, effective_step, mode)


def _relative(words: Tensor, start: Tensor) -> float:
    return ((words - start).norm() / start.norm()).item()
