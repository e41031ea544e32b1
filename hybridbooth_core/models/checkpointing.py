"""Activation checkpointing for a list of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def checkpointed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """While open, forward passes save only the inputs of `modules` and recompute their inside in the backward pass.

    The backward pass may run after this is closed; nothing remains on the modules. They must be deterministic, must not be nested, and
    must have the same weights in the backward pass.
    """
    blocks = [(module, vars(module).get("forward")) for module in modules]
    try:
        for module, _ in blocks:
            module.forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
        yield
    finally:
        for module, own in blocks:
            vars(module).pop("forward", None)
            if own is not None:
                module.forward = own
