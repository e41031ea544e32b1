"""What every system of the family makes of a subject: something that can be saved, applied at a strength, and is gone afterwards."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..models.adapter import Prompt, TrainableModel
from ..refine.refine import Refinement


class Artefact(Protocol):
    """A subject as one file: five words, a LoRA, a few matrices, or a whole denoiser."""

    def save(self, path: Path, overwrite: bool = False) -> None:
        """Write one `.safetensors`. UserError: it exists and `overwrite` is off, or the place cannot be written."""
        ...

    def applied(self, model: TrainableModel, strength: float = 1.0) -> AbstractContextManager[Prompt]:
        """While open, the subject is part of the model; yields the pieces that stand for it in a prompt.

        At strength 0 the pieces are the class noun and the model computes bit for bit as without the subject; so it does afterwards.

        Raises:
            UserError: the artefact was made for another model, or the strength is out of its range.
        """
        ...


@dataclass(frozen=True, eq=False)
class Trained:
    """What a method made.

    Attributes:
        artefacts: by the number of steps after which each was kept; the last step is always among them.
        losses: one for each step.
        report: a few lines for the user.
        refinement: of the methods that refine token embeddings.
    """

    artefacts: dict[int, Artefact]
    losses: list[float] = field(default_factory=list)
    report: str = ""
    refinement: Refinement | None = None

    @property
    def artefact(self) -> Artefact:
        """The one after the last step."""
        return self.artefacts[max(self.artefacts)]
