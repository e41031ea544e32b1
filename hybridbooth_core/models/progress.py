"""What a procedure reports after every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Step:
    """One finished step.

    Attributes:
        done, steps: how many steps are done, and how many there will be.
        loss: of this step, or the validation loss after it, as the procedure says.
        current: returns the subject as it is now, token embeddings [n, d] or an artefact to apply; computed only when called. None while
            there is nothing to draw with.
    """

    done: int
    steps: int
    loss: float
    current: Callable[[], Any] | None = None


OnStep = Callable[[Step], None]
"""Called after every step; may raise to stop, and the model is as it was."""
