"""How a refinement is fitted into memory: what is tried first, and what next where the memory does not suffice.

A model may say what a step needs and how much is free (`EstimatesMemory`), and may compute its blocks a second time instead of keeping what
they computed (`SupportsCheckpointing`). Neither is asked of a model: one that knows nothing of this is worked with plainly.
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

SMALL_SIDE = 384  # pixels; below it Stable Diffusion 1.5 no longer knows what it sees

log = logging.getLogger("hybridbooth")
Result = TypeVar("Result")


@dataclass(frozen=True)
class MemoryPlan:
    """How a refinement is fitted into memory.

    Attributes:
        checkpointing: the denoiser's blocks compute their inside again on the way back instead of keeping it, which takes a third longer.
        rows: rows of a step that are computed at once. Gradients add up over a step's rows, so that the step is the same to rounding.
        side: pixels of the images that the loss is computed on.
    """

    checkpointing: bool
    rows: int
    side: int

    @property
    def rows_without_gradients(self) -> int:
        """Rows of a validation computed at once: without gradients a row needs a good deal less memory."""
        return self.rows * (2 if self.checkpointing else 4)

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"checkpointing {'on' if self.checkpointing else 'off'}, {rows} at once, {self.side} px"


def memory_plans(batch: int, side: int) -> list[MemoryPlan]:
    """What to try, one after the other, for steps over `batch` rows of images of `side` pixels: plainly, with checkpointing, with fewer
    and fewer rows at once, and at last with smaller images."""
    plans = [MemoryPlan(False, batch, side), MemoryPlan(True, batch, side)]
    while plans[-1].rows > 1:
        plans.append(replace(plans[-1], rows=plans[-1].rows // 2))
    if side > SMALL_SIDE:
        plans.append(replace(plans[-1], side=SMALL_SIDE))
    return plans


@runtime_checkable
class SupportsCheckpointing(Protocol):
    """A model that can spare memory."""

    def use_plan(self, plan: MemoryPlan) -> AbstractContextManager[None]:
        """While open, gradients through it are computed with this effort; nothing of it remains."""
        ...


@runtime_checkable
class EstimatesMemory(Protocol):
    """A model that knows its memory."""

    def memory_needed(self, plan: MemoryPlan) -> int:
        """Bytes that a step of a refinement takes, besides the model itself."""
        ...

    def memory_free(self) -> int:
        """Bytes that a step may take now, the model having its place already."""
        ...


def use_plan(model: Any, plan: MemoryPlan) -> AbstractContextManager[None]:
    """`model.use_plan(plan)` where there is such a thing."""
    return model.use_plan(plan) if isinstance(model, SupportsCheckpointing) else nullcontext()


def estimated(model: Any, plan: MemoryPlan) -> int | None:
    """Bytes that the model thinks a step takes, None where it does not know."""
    return model.memory_needed(plan) if isinstance(model, EstimatesMemory) else None


def with_fallbacks(model: Any, plans: Sequence[MemoryPlan], attempt: Callable[[MemoryPlan], Result]) -> Result:
    """attempt(effort) on the first rung that there is room for, and anew on the next one whenever the memory does not suffice.

    Each fall is one line in the log, and everything of a failed attempt is given back before the next begins.

    Raises:
        UserError: the memory does not suffice on the last rung either.
    """
    for index in range(_first_with_room(model, plans), len(plans)):
        try:
            return attempt(plans[index])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Only here, where the error and with it the frames that hold the attempt's tensors are gone.
        give_back(model.device)
        if index + 1 < len(plans):
            log.warning("refining ran out of memory (%s); starting anew with %s", plans[index], plans[index + 1])
    raise UserError(_too_little(model, plans[-1]))


def _first_with_room(model: Any, plans: Sequence[MemoryPlan]) -> int:
    if not isinstance(model, EstimatesMemory):
        return 0
    free = model.memory_free()
    fitting = (index for index, plan in enumerate(plans) if model.memory_needed(plan) <= free)
    first = next(fitting, len(plans) - 1)
    if first:
        log.info(
            "refining with %s: a step as usual would need about %s, and %s are free",
            plans[first], gigabytes(model.memory_needed(plans[0])), gigabytes(free),
        )  # fmt: skip
    return first


def _too_little(model: Any, plan: MemoryPlan) -> str:
    needed = ""
    if isinstance(model, EstimatesMemory):
        needed = f" (about {gigabytes(model.memory_needed(plan))} needed, {gigabytes(max(model.memory_free(), 0))} free)"
    return (
        f"expected enough memory to refine at least with {plan}, found too little{needed}; close other programs that use the memory, "
        "or unload other models, and run it again"
    )


def gigabytes(size: int) -> str:
    """Bytes for a person, in two digits."""
    return f"{float(f'{size / 1e9:.2g}'):g} GB"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was asked for and not there, on whatever device."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    said = str(error).lower()
    signs = ("out of memory", "defaultcpuallocator: can't allocate", "defaultcpuallocator: not enough memory", "could not allocate tensor")
    return isinstance(error, RuntimeError) and any(sign in said for sign in signs)


def give_back(device: torch.device) -> None:
    """Free what nobody holds any more, and hand it back to the device."""
    gc.collect()
    empty = getattr(getattr(torch, device.type, None), "empty_cache", None)
    if empty is not None:
        empty()
