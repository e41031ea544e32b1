"""Several subjects refined at once: what each of them asks of the model goes through it as one batch.

Each subject comes out as it would alone, to rounding: it has its own words, noise, validation and best step.

Axes: K subjects, n words, d their width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from ..encoders.features import Reference
from ..errors import UserError
from ..models.adapter import DiffusionModel
from ..models.memory import MemoryPlan, memory_plans, use_plan, with_fallbacks
from ..probe.probe import Features, Probe
from .config import RefineConfig
from .refine import GradientRequest, Refinement, Steps, ValidationRequest, steps
from .task import LossRequest, Task, losses_together
from .updates import update_rule

Piece = tuple[int, LossRequest, float]  # whose it is, and its share of that subject's rows


def refine_many(
    model: DiffusionModel,
    refs: Sequence[Reference],
    nouns: Sequence[Tensor],
    config: RefineConfig,
    probe: Probe | None = None,
    features: Sequence[Features] | None = None,
    starts: Sequence[Tensor] | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> list[Refinement]:
    """Refine the words of K subjects.

    Args:
        refs, nouns, features, starts: as in `refine`, one for each subject; all of one number of words.
        config: for all of them; the mode is "words" or "learned".
        on_step: called after every step of every subject with (steps done, steps, validation loss); may raise to stop.
    Raises:
        UserError: a mode that moves the probe itself, no subject, or what `refine` raises for any of them.
        ValueError: other numbers of nouns, features or starts than of references.
    """
    count = len(refs)
    if count == 0:
        raise UserError("expected at least one subject to refine, found none; give a reference image for each")
    if any(given is not None and len(given) != count for given in (nouns, features, starts)):
        raise ValueError(f"expected as many nouns and features or starts as the {count} references")
    learned = probe is not None and probe.learned_optimizer is not None
    config = config.settled("words" if starts is not None else "learned" if learned else "residual")
    if config.mode not in ("words", "learned"):
        raise UserError(
            f"the mode {config.mode} moves the probe, which several subjects share; choose the mode words, or refine them singly"
        )

    def attempt(plan: MemoryPlan) -> list[Refinement]:
        with torch.enable_grad(), use_plan(model, plan), ExitStack() as stack:
            tasks = [Task(model, ref, config, plan) for ref in refs]
            given = zip(features or [None] * count, nouns, starts or [None] * count, strict=True)
            relative_changes = [stack.enter_context(update_rule(config, probe, *one)) for one in given]
            return _in_step(tasks, [steps(task, move, on_step) for task, move in zip(tasks, relative_changes, strict=True)])

    return with_fallbacks(model, memory_plans(count * config.batch, model.image_size), attempt)


def _in_step(tasks: Sequence[Task], procedures: Sequence[Steps]) -> list[Refinement]:
    """Run all procedures; in every round those that ask for the same kind of thing are answered together."""
    answers: dict[int, Any] = dict.fromkeys(range(len(tasks)))
    results: dict[int, Refinement] = {}
    while answers:
        request: dict[int, ValidationRequest | GradientRequest] = {}
        for index, answer in answers.items():
            try:
                request[index] = procedures[index].send(answer)
            except StopIteration as done:
                results[index] = done.value
        validating = {index: one for index, one in request.items() if isinstance(one, ValidationRequest)}
        descending = {index: one for index, one in request.items() if isinstance(one, GradientRequest)}
        answers = _validated(tasks, validating) | _gradients(tasks, descending)
    return [results[index] for index in range(len(tasks))]


@torch.no_grad()
def _validated(tasks: Sequence[Task], request: dict[int, ValidationRequest]) -> dict[int, float]:
    """`Task.validate` of each."""
    found = dict.fromkeys(request, 0.0)
    rows = {index: (one.embeddings, *tasks[index].fixed, 0) for index, one in request.items()}
    for pieces in _batches(tasks, rows, tasks[0].plan.eval_batch_size, with_masks=False):
        losses = losses_together(tasks[0].model, [loss_request for _, loss_request, _ in pieces])
        for (index, _, share), loss in zip(pieces, losses, strict=True):
            found[index] += share * loss.item()
    return found


def _gradients(tasks: Sequence[Task], request: dict[int, GradientRequest]) -> dict[int, tuple[Tensor, Tensor]]:
    """`Task.gradient` of each."""
    leaves = {index: one.embeddings.detach().clone().requires_grad_(True) for index, one in request.items()}
    found = {index: (torch.zeros((), device=leaf.device), torch.zeros_like(leaf)) for index, leaf in leaves.items()}
    rows = {index: (leaves[index], one.t, one.noise, one.step * len(one.t)) for index, one in request.items()}
    for pieces in _batches(tasks, rows, tasks[0].plan.batch_size, with_masks=True):
        losses = losses_together(tasks[0].model, [loss_request for _, loss_request, _ in pieces])
        shares = [share * loss for (_, _, share), loss in zip(pieces, losses, strict=True)]
        gradients = torch.autograd.grad(torch.stack(shares).sum(), [leaves[index] for index, _, _ in pieces])
        for (index, _, _), loss, gradient in zip(pieces, shares, gradients, strict=True):
            found[index] = found[index][0] + loss.detach(), found[index][1] + gradient
    return found


def _batches(
    tasks: Sequence[Task], request: dict[int, tuple[Tensor, Tensor, Tensor, int]], most: int, with_masks: bool
) -> Iterator[list[Piece]]:
    """All rows (words, times, noise, how many went before) of all subjects in batches of at most `most`."""
    batch: list[Piece] = []
    room = most
    for index, (embeddings, t, noise, first) in request.items():
        start = 0
        while start < len(t):
            rows = slice(start, min(start + room, len(t)))
            loss_request = tasks[index].loss_request(embeddings, t[rows], noise[rows], with_masks, first + start)
            batch.append((index, loss_request, len(loss_request.t) / len(t)))
            room, start = room - len(loss_request.t), rows.stop
            if room == 0:
                yield batch
                batch, room = [], most
    if batch:
        yield batch
