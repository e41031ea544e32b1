"""What one step of the training sees, wherever it comes from.

Axes: B rows of a micro-batch, L tokens, C their width, S side in pixels, h w latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class DataShard:
    """Which rows of every step's global batch a process computes: row r of `batch` belongs to process r modulo `world`.

    So what a row holds depends on its number alone, and any number of processes sees the same batch.
    """

    batch: int
    micro: int
    rank: int = 0
    world: int = 1

    def rows(self, micro: int) -> list[int]:
        """The numbers, within the global batch, of the rows of this process's micro-batch."""
        first = micro * self.micro
        return [(first + row) * self.world + self.rank for row in range(self.micro)]

    @property
    def accumulation(self) -> int:
        return self.batch // (self.micro * self.world)


@dataclass(frozen=True, eq=False)
class Batch:
    """B rows, on the CPU. Tokens and latents where they were cached, images where they are still to be computed.

    Attributes:
        rows: their numbers within the step's global batch.
        clip, dino: tokens [B, L, C], or the crops [B, size, size, 3] that the encoders are to see.
        reference: what the regressor sees: latents [B, C, h, w], or an image [B, S, S, 3].
        target: what is to be drawn, in the same two forms.
        masks: [B, S, S] of the target, 1 on the subject; all 1 where `masked` [B] says that there is none.
        nouns: class nouns. sentences: what the prompt says before and after the words.
    """

    rows: Sequence[int]
    clip: Tensor
    dino: Tensor
    reference: Tensor
    target: Tensor
    masks: Tensor
    masked: Tensor
    nouns: Sequence[str]
    templates: Sequence[tuple[str, str]]


class Source(Protocol):
    """Where batches come from."""

    def batches(self, step: int, share: DataShard) -> Iterator[Batch]:
        """This process's micro-batches from a step on, without end: a function of the source's seed, the step and the rows' numbers."""
        ...

    def held_out(self, count: int) -> list[Batch]:
        """The same `count` rows every time, for validation, in pieces that fit a micro-batch."""
        ...
