"""Memory plans of a refinement, and the fallbacks after an out-of-memory error.

A model adapter may implement `EstimatesMemory` and `SupportsCheckpointing`; both are optional.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from ..errors import UserError

SMALL_SIDE = 384  # pixels; Stable Diffusion 1.5 degrades below this

log = logging.getLogger("hybridbooth")
Result = TypeVar("Result")


@dataclass(frozen=True)
class MemoryPlan:
    """How a refinement trades time for memory.

    Attributes:
        checkpointing: use activation checkpointing in the denoiser (about a third slower).
        batch_size: samples per forward pass. Gradients accumulate over a step's samples, so the step is the same up to rounding.
        side: side in pixels of the images that the loss is computed on.
    """

    checkpointing: bool
    batch_size: int
    side: int

    @property
    def eval_batch_size(self) -> int:
        """Samples per forward pass without gradients, where a sample needs less memory."""
        return self.batch_size * (2 if self.checkpointing else 4)

    def __str__(self) -> str:
        return f"checkpointing {'on' if self.checkpointing else 'off'}, batch size {self.batch_size}, {self.side} px"


def memory_plans(batch: int, side: int) -> list[MemoryPlan]:
    """The OOM fallbacks in order, for steps over `batch` images of `side` pixels.

    First the plain plan, then checkpointing, then smaller batches, and finally smaller images.
    """
    plans = [MemoryPlan(False, batch, side), MemoryPlan(True, batch, side)]
    while plans[-1].batch_size > 1:
        plans.append(replace(plans[-1], batch_size=plans[-1].batch_size // 2))
    if side > SMALL_SIDE:
        plans.append(replace(plans[-1], side=SMALL_SIDE))
    return plans


@runtime_checkable
class SupportsCheckpointing(Protocol):
    """A model adapter with activation checkpointing."""

    def use_plan(self, plan: MemoryPlan) -> AbstractContextManager[None]:
        """While open, forward passes that need gradients follow `plan`. Closing restores the previous plan."""
        ...


@runtime_checkable
class EstimatesMemory(Protocol):
    """A model adapter that can estimate memory."""

    def memory_needed(self, plan: MemoryPlan) -> int:
        """Estimated bytes of one refinement step, without the model's weights."""
        ...

    def memory_free(self) -> int:
        """Bytes available for a step once the model is loaded."""
        ...


def use_plan(model: Any, plan: MemoryPlan) -> AbstractContextManager[None]:
    """`model.use_plan(plan)`, or a context that does nothing if the model does not support checkpointing."""
    return model.use_plan(plan) if isinstance(model, SupportsCheckpointing) else nullcontext()


def memory_estimate(model: Any, plan: MemoryPlan) -> int | None:
    """Estimated bytes of one step, or None if the model does not estimate memory."""
    return model.memory_needed(plan) if isinstance(model, EstimatesMemory) else None


def with_fallbacks(model: Any, plans: Sequence[MemoryPlan], attempt: Callable[[MemoryPlan], Result]) -> Result:
    """Returns `attempt(plan)` for the first plan that fits into memory, trying the next plan after each out-of-memory error.

    Starts at the first plan whose estimate fits. Every fallback logs one line, after the failed attempt's memory has been freed.

    Raises:
        UserError: the last plan does not fit either.
    """
    for index in range(_first_fitting(model, plans), len(plans)):
        try:
            return attempt(plans[index])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside the except block: the error's traceback holds the frames, and they hold the attempt's tensors.
        empty_cache(model.device)
        if index + 1 < len(plans):
            log.warning("refinement ran out of memory (%s); restarting with %s", plans[index], plans[index + 1])
    raise UserError(_out_of_memory_message(model, plans[-1]))


def _first_fitting(model: Any, plans: Sequence[MemoryPlan]) -> int:
    if not isinstance(model, EstimatesMemory):
        return 0
    free = model.memory_free()
    fitting = (index for index, plan in enumerate(plans) if model.memory_needed(plan) <= free)
    first = next(fitting, len(plans) - 1)
    if first:
        log.info(
            "refining with %s, because %s needs about %s and %s is free",
            plans[first], plans[0], gigabytes(model.memory_needed(plans[0])), gigabytes(free),
        )  # fmt: skip
    return first


def _out_of_memory_message(model: Any, plan: MemoryPlan) -> str:
    needed = ""
    if isinstance(model, EstimatesMemory):
        needed = f" (about {gigabytes(model.memory_needed(plan))} needed, {gigabytes(max(model.memory_free(), 0))} free)"
    return (
        f"not enough memory to refine, even with {plan}{needed}; close other programs that use this memory or unload other models, "
        "then run again"
    )


def gigabytes(size: int) -> str:
    """A size in bytes as gigabytes with two significant digits, such as "1.3 GB"."""
    return f"{float(f'{size / 1e9:.2g}'):g} GB"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is an out-of-memory error of any device (CUDA, ROCm, MPS, CPU)."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    message = str(error).lower()
    signs = ("out of memory", "defaultcpuallocator: can't allocate", "defaultcpuallocator: not enough memory", "could not allocate tensor")
    return isinstance(error, RuntimeError) and any(sign in message for sign in signs)


def empty_cache(device: torch.device) -> None:
    """Collect garbage and empty the device's allocator cache."""
    gc.collect()
    empty = getattr(getattr(torch, device.type, None), "empty_cache", None)
    if empty is not None:
        empty()
