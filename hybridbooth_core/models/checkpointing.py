"""Blocks of a network that keep only what goes into them, and compute their inside a second time on the way back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..fast_cpu import FastProducts


@contextmanager
def checkpointed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Forward passes while this is open keep only the inputs of `modules`; the way back may come after it is closed.

    Nothing remains on the modules. They must not be random, must not be nested, and must find the same weights on the way back.
    """
    blocks = [(module, vars(module).get("forward")) for module in modules]
    try:
        for module, _ in blocks:
            module.forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False, context_fn=_same_ways)
        yield
    finally:
        for module, own in blocks:
            vars(module).pop("forward", None)
            if own is not None:
                module.forward = own


def _same_ways() -> tuple[FastProducts, FastProducts]:
    """The way there and the second time take the same products, so that they keep the same tensors."""
    return FastProducts(), FastProducts()
