"""A micro-batch, and how a global batch is divided among processes.

Axes: B rows of a micro-batch, L tokens, C their width, S side in pixels, h w latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class DataShard:
    """The part of each global batch that a process computes: row r of `batch` belongs to process r modulo `world`.

    The content of a row depends on its number only, so any number of processes sees the same global batch.
    """

    batch: int
    micro: int
    rank: int = 0
    world: int = 1

    def rows(self, micro: int) -> list[int]:
        """Numbers within the global batch of the rows of this process's micro-batch number `micro`."""
        first = micro * self.micro
        return [(first + row) * self.world + self.rank for row in range(self.micro)]

    @property
    def accumulation(self) -> int:
        return self.batch // (self.micro * self.world)


@dataclass(frozen=True, eq=False)
class Batch:
    """B rows, on the CPU: tokens and latents if they are cached, images otherwise.

    Attributes:
        rows: their numbers within the step's global batch.
        clip, dino: tokens [B, L, C], or crops [B, size, size, 3] for the encoders.
        reference: input of the regressor: latents [B, C, h, w], or images [B, S, S, 3].
        target: latents or images to denoise, in the same two forms.
        masks: [B, S, S] of the targets, 1 on the subject. masked: bool [B]; False where the target has no mask (`masks` is 1 there).
        nouns: class nouns. templates: text before and after the subject's token embeddings.
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
    """A source of batches."""

    def batches(self, step: int, shard: DataShard) -> Iterator[Batch]:
        """An endless iterator over this process's micro-batches, from `step` on. A row depends on seed, step and row number only."""
        ...

    def held_out(self, count: int) -> list[Batch]:
        """The same `count` validation rows every time, as batches of at most a micro-batch."""
        ...
