"""Update rules of a refinement. Each is a context manager; closing it leaves the probe unchanged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..probe.probe import Features, Probe
from .config import RefineConfig
from .residual import residual_optimizer, residuals_on

PAPER_LR, PAPER_LAMBDA, PAPER_DECAY = 2e-5, 1e-2, 1e-2  # the constants printed in the paper

WORDS_STEP, START_STEP = 0.05, 0.1
"""Default steps on embeddings as a fraction of their norm: from a probe's prediction, and from given ones."""


class UpdateRule(AbstractContextManager, Protocol):
    """Provides the current token embeddings and updates them by a gradient."""

    step_size: float

    def embeddings(self) -> Tensor:
        """The current embeddings [n, d], with a graph to the optimized parameters."""
        ...

    def step(self, embeddings: Tensor, gradient: Tensor) -> None:
        """Takes one step, given `embeddings()` with its graph and the gradient [n, d] of the loss."""
        ...


class EmbeddingUpdate:
    """Optimizes the embeddings themselves by Adam. The step size is a fraction of `norm`, the mean norm of an embedding.

    The loss has the further term `anchor` x |e - start|^2 / (2 norm^2), which ties the embeddings to their start.
    """

    def __init__(self, start: Tensor, step_size: float, norm: float):
        self.step_size, self.norm, self.anchor = step_size, norm, 0.0
        self.start = start.detach().clone().float()
        self.leaf = nn.Parameter(self.start.clone())
        per_entry = step_size * norm / start.shape[1] ** 0.5  # Adam changes every entry by about its learning rate
        self.optimizer = torch.optim.Adam([self.leaf], lr=per_entry)

    def __enter__(self) -> EmbeddingUpdate:
        return self

    def __exit__(self, *exception) -> None:
        return None

    def embeddings(self) -> Tensor:
        return self.leaf

    def step(self, embeddings: Tensor, gradient: Tensor) -> None:
        pull = self.anchor * (self.leaf.detach() - self.start) / self.norm**2
        _optimizer_step(self.optimizer, embeddings, gradient + pull)


class ResidualUpdate:
    """Optimizes residuals W' = W + lambda D of the probe's cross-attentions; the embeddings are the probe's predictions."""

    def __init__(self, probe: Probe, predict: Callable[[], Tensor], step_size: float | None):
        """`step_size` None uses the paper's printed constants."""
        self.literal = step_size is None
        self.scale = PAPER_LAMBDA if self.literal else 1.0
        self.step_size = PAPER_LR * PAPER_LAMBDA if step_size is None else step_size
        self.embeddings = predict
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
        _optimizer_step(self.optimizer, embeddings, gradient)


def _optimizer_step(optimizer: torch.optim.Optimizer, embeddings: Tensor, gradient: Tensor) -> None:
    """Backpropagates the embeddings' gradient to the optimizer's parameters, and to nothing else, and takes a step."""
    optimizer.zero_grad()
    embeddings.backward(gradient, inputs=[leaf for group in optimizer.param_groups for leaf in group["params"]])
    optimizer.step()


def update_rule(config: RefineConfig, probe: Probe | None, features: Features | None, noun: Tensor, start: Tensor | None) -> UpdateRule:
    """The update rule of a resolved configuration.

    Raises:
        UserError: the mode needs a probe or features that are missing.
    """
    if start is not None:
        if config.mode != "words":
            raise UserError(f"the mode {config.mode} cannot start from given embeddings; use the mode words")
        return EmbeddingUpdate(start, config.step_size or START_STEP, start.norm(dim=1).mean().item())
    if probe is None or features is None:
        raise UserError(f"the mode {config.mode} needs a probe's prediction; load a probe, or provide initial embeddings")

    def predict() -> Tensor:
        return probe(features, noun).mean(0)

    if config.mode in ("residual", "paper_literal"):
        literal = config.mode == "paper_literal"
        return ResidualUpdate(probe, predict, None if literal else config.step_size or probe.config.residual_step)
    with torch.no_grad():
        return EmbeddingUpdate(predict(), config.step_size or WORDS_STEP, probe.config.embedding_norm)
