"""In which order training sees samples: a pure function of the seed and the position, so that a run can go on anywhere.

In each epoch the shards are shuffled, and the samples within each; that long row is cut into as many *lanes* of equal length as a reader
is told, and the lanes take turns. Process r of W reads positions r, r + W, r + 2W ..., which are its own lanes; so no sample is read twice,
and W processes together read in each step what one process would.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


def shuffled(count: int, *salt: int | str) -> list[int]:
    """0..count-1 in an order that depends on the salt alone: not on any library's generator, which may change."""
    text = "/".join(map(str, salt))
    return sorted(range(count), key=lambda number: (hashlib.sha256(f"{text}/{number}".encode()).digest(), number))


class Epoch:
    """The order of one epoch.

    Attributes:
        length: how many samples it has: all but a remainder that the lanes cannot share, another one in each epoch.
    """

    def __init__(self, counts: Sequence[int], seed: int, epoch: int, interleave: int):
        """`counts`: the samples of each shard."""
        self._salt, self._interleave = (seed, epoch), interleave
        self._shards = shuffled(len(counts), "shards", *self._salt)
        self._starts = [0, *accumulate(counts[shard] for shard in self._shards)]
        self._stream_length = self._starts[-1] // interleave
        self.length = self._stream_length * interleave

    def place(self, position: int) -> tuple[int, int]:
        """Of a position in 0..length-1: its shard, and which of that shard's shuffled samples it is."""
        turn, stream = divmod(position, self._interleave)
        row = stream * self._stream_length + turn
        index = bisect_right(self._starts, row) - 1
        return self._shards[index], row - self._starts[index]

    def samples(self, shard: int, count: int) -> list[int]:
        """The samples of a shard in this epoch's order."""
        return shuffled(count, "samples", *self._salt, shard)
