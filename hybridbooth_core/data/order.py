"""The order of samples in training: a function of the seed and the position, so that a training can resume anywhere.

In each epoch the shards, and the samples within each shard, are shuffled. This sequence is cut into `interleave` streams of equal length,
which take turns. Process r of W reads positions r, r + W, r + 2W ..., which belong to its own streams: no sample is read twice, and W
processes read the same samples in a step as one process would.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


def shuffled(count: int, *salt: int | str) -> list[int]:
    """0..count-1 in an order that depends on the salt only, not on a library's random generator, which may change."""
    text = "/".join(map(str, salt))
    return sorted(range(count), key=lambda number: (hashlib.sha256(f"{text}/{number}".encode()).digest(), number))


class Epoch:
    """The order of one epoch.

    Attributes:
        length: number of samples: all but the remainder of dividing by `interleave`, which differs in each epoch.
    """

    def __init__(self, counts: Sequence[int], seed: int, epoch: int, interleave: int):
        """`counts`: the samples of each shard."""
        self._salt, self._interleave = (seed, epoch), interleave
        self._shards = shuffled(len(counts), "shards", *self._salt)
        self._starts = [0, *accumulate(counts[shard] for shard in self._shards)]
        self._stream_length = self._starts[-1] // interleave
        self.length = self._stream_length * interleave

    def place(self, position: int) -> tuple[int, int]:
        """The shard of a position in 0..length-1, and the index within that shard's shuffled samples."""
        turn, stream = divmod(position, self._interleave)
        row = stream * self._stream_length + turn
        index = bisect_right(self._starts, row) - 1
        return self._shards[index], row - self._starts[index]

    def samples(self, shard: int, count: int) -> list[int]:
        """The numbers of a shard's samples in this epoch's order."""
        return shuffled(count, "samples", *self._salt, shard)
