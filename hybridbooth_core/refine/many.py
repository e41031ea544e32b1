"""Refines several subjects at once, sharing batches of the model.

Up to rounding, each result equals that of `refine`: subjects have their own embeddings, noise, validation and number of steps.

Axes: K subjects, n token embeddings, d their width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..encoders.features import Reference
from ..errors import UserError
from ..models.adapter import DiffusionModel
from ..models.memory import MemoryPlan, memory_plans, use_plan, with_fallbacks
from ..models.progress import OnStep
from ..probe.probe import Features, Probe
from .config import RefineConfig
from .refine import GradientRequest, Refinement, Steps, ValidationRequest, steps
from .task import LossRequest, Task, batched_losses
from .updates import update_rule

Part = tuple[int, LossRequest, float]  # the subject's index, a request, and its fraction of the subject's samples


def refine_many(
    model: DiffusionModel,
    refs: Sequence[Reference],
    nouns: Sequence[Tensor],
    config: RefineConfig,
    probe: Probe | None = None,
    features: Sequence[Features] | None = None,
    starts: Sequence[Tensor] | None = None,
    on_step: OnStep | None = None,
    captions: Sequence[str] | None = None,
) -> list[Refinement]:
    """Refines the token embeddings of K subjects.

    Args:
        refs, nouns, features, starts: as in `refine`, one per subject; all subjects have the same number of tokens.
        config: shared by all subjects; the mode must be "words".
        on_step: as in `refine`, called for every subject.
        captions: one per subject, in place of the configuration's.
    Raises:
        UserError: the mode changes the probe, there is no subject, or `refine` would raise.
        ValueError: the numbers of nouns, features or starts differ from that of the references.
    """
    count = len(refs)
    if count == 0:
        raise UserError("expected at least one subject to refine, found none; add a reference image")
    if any(values is not None and len(values) != count for values in (nouns, features, starts, captions)):
        raise ValueError(f"expected as many nouns, captions and features or starts as references ({count})")
    config = config.resolved
    if config.mode != "words":
        raise UserError(
            f"the mode {config.mode} changes the probe, which the subjects share; use the mode words, or refine one subject at a time"
        )

    def attempt(plan: MemoryPlan) -> list[Refinement]:
        with torch.enable_grad(), use_plan(model, plan), ExitStack() as stack:
            own = [replace(config, caption=caption) for caption in captions or [config.caption] * count]
            tasks = [Task(model, ref, mine, plan) for ref, mine in zip(refs, own, strict=True)]
            inputs = zip(features or [None] * count, nouns, starts or [None] * count, strict=True)
            rules = [stack.enter_context(update_rule(config, probe, *values)) for values in inputs]
            return _run(
                tasks, [steps(task, rule, probe if starts is None else None, on_step) for task, rule in zip(tasks, rules, strict=True)]
            )

    return with_fallbacks(model, memory_plans(count * config.batch, model.image_size), attempt)


def _run(tasks: Sequence[Task], procedures: Sequence[Steps]) -> list[Refinement]:
    """Runs all procedures in lockstep; each round computes requests of the same kind together."""
    answers: dict[int, Any] = dict.fromkeys(range(len(tasks)))
    results: dict[int, Refinement] = {}
    while answers:
        requests: dict[int, ValidationRequest | GradientRequest] = {}
        for index, answer in answers.items():
            try:
                requests[index] = procedures[index].send(answer)
            except StopIteration as done:
                results[index] = done.value
        validations = {index: request for index, request in requests.items() if isinstance(request, ValidationRequest)}
        gradients = {index: request for index, request in requests.items() if isinstance(request, GradientRequest)}
        answers = _validate(tasks, validations) | _gradients(tasks, gradients)
    return [results[index] for index in range(len(tasks))]


@torch.no_grad()
def _validate(tasks: Sequence[Task], requests: dict[int, ValidationRequest]) -> dict[int, float]:
    """`Task.validate` of each subject."""
    found = dict.fromkeys(requests, 0.0)
    samples = {index: (request.embeddings, *tasks[index].fixed, 0) for index, request in requests.items()}
    for parts in _batches(tasks, samples, tasks[0].plan.eval_batch_size, with_masks=False):
        losses = batched_losses(tasks[0].model, [loss_request for _, loss_request, _ in parts])
        for (index, _, fraction), loss in zip(parts, losses, strict=True):
            found[index] += fraction * loss.item()
    return found


def _gradients(tasks: Sequence[Task], requests: dict[int, GradientRequest]) -> dict[int, tuple[Tensor, Tensor]]:
    """`Task.gradient` of each subject."""
    leaves = {index: request.embeddings.detach().clone().requires_grad_(True) for index, request in requests.items()}
    found = {index: (torch.zeros((), device=leaf.device), torch.zeros_like(leaf)) for index, leaf in leaves.items()}
    samples = {index: (leaves[index], request.t, request.noise, request.step * len(request.t)) for index, request in requests.items()}
    for parts in _batches(tasks, samples, tasks[0].plan.batch_size, with_masks=True):
        losses = batched_losses(tasks[0].model, [loss_request for _, loss_request, _ in parts])
        weighted = [fraction * loss for (_, _, fraction), loss in zip(parts, losses, strict=True)]
        gradients = torch.autograd.grad(torch.stack(weighted).sum(), [leaves[index] for index, _, _ in parts])
        for (index, _, _), loss, gradient in zip(parts, weighted, gradients, strict=True):
            found[index] = found[index][0] + loss.detach(), found[index][1] + gradient
    return found


def _batches(
    tasks: Sequence[Task], samples: dict[int, tuple[Tensor, Tensor, Tensor, int]], batch_size: int, with_masks: bool
) -> Iterator[list[Part]]:
    """Batches of at most `batch_size` over all subjects' samples: (embeddings, times, noise, index of the first sample)."""
    batch: list[Part] = []
    room = batch_size
    for index, (embeddings, t, noise, first) in samples.items():
        start = 0
        while start < len(t):
            rows = slice(start, min(start + room, len(t)))
            loss_request = tasks[index].loss_request(embeddings, t[rows], noise[rows], with_masks, first + start)
            batch.append((index, loss_request, len(loss_request.t) / len(t)))
            room, start = room - len(loss_request.t), rows.stop
            if room == 0:
                yield batch
                batch, room = [], batch_size
    if batch:
        yield batch
