"""What a refinement moves, and how one step moves it. Each of these is open during the steps and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..probe.probe import Features, Probe
from .config import RefineConfig
from .residual import residual_optimizer, residuals_on

PAPER_LR, PAPER_LAMBDA, PAPER_DECAY = 2e-5, 1e-2, 1e-2  # HybridBooth's printed constants


class UpdateRule(AbstractContextManager, Protocol):
    """The words as they are now, and what a loss of theirs does to them."""

    step_size: float

    def embeddings(self) -> Tensor:
        """[n, d], with a graph to whatever moves."""
        ...

    def step(self, embeddings: Tensor, gradient: Tensor) -> None:
        """Move, given `words()` with its graph and the gradient [n, d] of a loss to it."""
        ...


class _Open:
    """Nothing to set up or to clear away."""

    def __enter__(self):
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None


class EmbeddingUpdate(_Open):
    """What moves is the words themselves, by Adam; the length of a step is a share of an average word's length."""

    def __init__(self, start: Tensor, step_size: float, norm: float):
        self.step_size = step_size
        self.leaf = nn.Parameter(start.detach().clone().float())
        per_entry = step_size * norm / start.shape[1] ** 0.5  # Adam moves every entry by about its rate
        self.optimizer = torch.optim.Adam([self.leaf], lr=per_entry)

    def embeddings(self) -> Tensor:
        return self.leaf

    def step(self, embeddings: Tensor, gradient: Tensor) -> None:
        _descend(self.optimizer, embeddings, gradient)


class LearnedUpdate(_Open):
    """What moves is the words themselves, as the probe has learnt to move them."""

    def __init__(self, probe: Probe, start: Tensor, step_size: float):
        self.probe, self.step_size = probe, step_size
        self.leaf = start.detach().clone().float().requires_grad_(True)

    def embeddings(self) -> Tensor:
        return self.leaf

    def step(self, embeddings: Tensor, gradient: Tensor) -> None:
        with torch.no_grad():
            change = self.probe.step(self.leaf[None], gradient[None])[0]
        self.leaf = (self.leaf.detach() + self.step_size * change).requires_grad_(True)


class ResidualUpdate:
    """What moves is W' = W + lambda D of the probe's cross-attentions; the words are the probe's."""

    def __init__(self, probe: Probe, guess: Callable[[], Tensor], step_size: float | None):
        """`step_size` None takes the printed constants literally."""
        self.literal = step_size is None
        self.scale = PAPER_LAMBDA if self.literal else 1.0
        self.step_size = PAPER_LR * PAPER_LAMBDA if step_size is None else step_size
        self.embeddings = guess
        self.hooks = residuals_on(probe.regressor.refined_layers(), self.scale)  # type: ignore[operator]

    def __enter__(self) -> ResidualUpdate:
        residuals = self.hooks.__enter__()
        if self.literal:
            self.optimizer = torch.optim.AdamW([r.delta for r in residuals], lr=PAPER_LR, weight_decay=PAPER_DECAY)
        else:
            self.optimizer = residual_optimizer(residuals, self.step_size)
        return self

    def __exit__(self, *exception) -> None:
        self.hooks.__exit__(*exception)

    def step(self, embeddings: Tensor, gradient: Tensor) -> None:
        _descend(self.optimizer, embeddings, gradient)


def _descend(optimizer: torch.optim.Optimizer, embeddings: Tensor, gradient: Tensor) -> None:
    """One step of the optimizer's own leaves down a gradient given at the words; nothing else gets a gradient."""
    optimizer.zero_grad()
    embeddings.backward(gradient, inputs=[leaf for group in optimizer.param_groups for leaf in group["params"]])
    optimizer.step()


def update_rule(config: RefineConfig, probe: Probe | None, features: Features | None, noun: Tensor, start: Tensor | None) -> UpdateRule:
    """What a (settled) configuration moves.

    Raises:
        UserError: the mode lacks what it needs: a probe, features, or steps that the probe has learnt.
    """
    if start is not None:
        if config.mode != "words":
            raise UserError(f"the mode {config.mode} refines a probe's guess, not given words; choose the mode words")
        return EmbeddingUpdate(start, config.step_size or 0.1, start.norm(dim=1).mean().item())
    if probe is None or features is None:
        raise UserError(f"the mode {config.mode} starts from a probe's guess; load a probe, or give words to start from")

    def guess() -> Tensor:
        return probe(features, noun).mean(0)

    if config.mode in ("residual", "paper_literal"):
        literal = config.mode == "paper_literal"
        return ResidualUpdate(probe, guess, None if literal else config.step_size or probe.config.residual_step)
    with torch.no_grad():
        first = guess()
    if config.mode == "words":
        return EmbeddingUpdate(first, config.step_size or probe.config.words_step, probe.config.embedding_norm)
    if probe.learned_optimizer is None:
        raise UserError("this probe has learnt no steps of its own; choose the mode residual, or load a probe that has")
    return LearnedUpdate(probe, first, config.step_size or probe.config.learned_step)
