"""Reads shards as an endless sequence of examples, from any position and in any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

from ..errors import UserError
from .examples import Example, Stored, example_of
from .loading import check_shards, load_shard
from .order import Epoch
from .shards import NOTES, read_index


class ShardReader:
    """Reads one process's part of a folder of shards.

    A *position* counts samples over all processes and epochs since the start of the training; a checkpoint needs nothing else. The sample
    at a position depends on the seed and `interleave`, not on `world`: W processes with b examples per step see the same as one with W b.

    Attributes:
        index: of the folder. epoch_length: number of positions in an epoch.
    """

    def __init__(self, folder: Path, seed: int = 0, rank: int = 0, world: int = 1, interleave: int = 8, images: bool = True):
        """Args:
            interleave: number of shards that are read in turns, a multiple of `world`. Each is held in memory; more mix better.
            images: False skips the images, for training on cached features.
        Raises:
            UserError: the folder is not complete, a shard is missing or has another size, or there are fewer samples than `interleave`.
            ValueError: `rank` is not below `world`, or `interleave` is not a multiple of it.
        """
        if not 0 <= rank < world or interleave < 1 or interleave % world:
            raise ValueError(f"expected rank < world and interleave as a multiple of world, found {rank}, {world} and {interleave}")
        self.folder, self.index = folder, read_index(folder)
        self._seed, self._rank, self._world, self._interleave, self._images = seed, rank, world, interleave, images
        self.epoch_length = self.index.samples // interleave * interleave
        if not self.epoch_length:
            raise UserError(f"{folder} has {self.index.samples} samples, expected at least {interleave}; lower --data.interleave")
        check_shards(folder, self.index)

    def read(self, position: int = 0) -> Iterator[Example]:
        """An endless iterator over this process's examples from a position on.

        Raises:
            UserError: a shard is missing, unreadable, or was changed.
        """
        for row in self.rows(position):
            yield row.target

    def pairs(self, position: int = 0) -> Iterator[tuple[Example, Example]]:
        """The same examples as (reference, target): the reference is another image of the same identity in the shard, if there is one.

        So the token embeddings cannot copy the reference's background.
        """
        for row in self.rows(position):
            yield row.partner, row.target

    def rows(self, position: int = 0) -> Iterator[Row]:
        """The same positions, not decoded yet, so that other threads can do that."""
        for shard, slot in self._walk(position):
            yield Row(shard, slot, self._example)

    def _walk(self, position: int) -> Iterator[tuple[_Loaded, int]]:
        counts = [shard.samples for shard in self.index.shards]
        open_streams: dict[int, tuple[tuple[int, int], _Loaded]] = {}
        number, order = -1, None
        position += (self._rank - position) % self._world
        while True:
            epoch, within = divmod(position, self.epoch_length)
            if order is None or epoch != number:
                number, order = epoch, Epoch(counts, self._seed, epoch, self._interleave)
            shard, slot = order.place(within)
            stream = within % self._interleave
            if stream not in open_streams or open_streams[stream][0] != (epoch, shard):
                open_streams.pop(stream, None)  # before loading, so that a stream has one shard in memory
                entry = self.index.shards[shard]
                open_streams[stream] = (
                    (epoch, shard),
                    _Loaded(load_shard(self.folder, entry, self._images), order.samples(shard, entry.samples)),
                )
            yield open_streams[stream][1], slot
            position += self._world

    def _example(self, stored: Stored) -> Example:
        try:
            return example_of(stored, self.index.config)
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # the last three: a damaged index
            raise UserError(f"the sample {stored['__key__']} in {self.folder} is damaged ({error}); prepare the images again") from error


class Row:
    """One position. Images are decoded on access, with the errors of `ShardReader.read`."""

    def __init__(self, shard: _Loaded, slot: int, decode: Callable[[Stored], Example]):
        self._shard, self._slot, self._decode = shard, slot, decode

    @cached_property
    def target(self) -> Example:
        """The example at this position."""
        return self._decode(self._shard.rows[self._slot])

    @cached_property
    def partner(self) -> Example:
        """Another example of the same identity in the shard, or the target if there is none."""
        other = self._shard.partners[self._slot]
        return self.target if other == self._slot else self._decode(self._shard.rows[other])

    @property
    def other_identity(self) -> Callable[[], Example] | None:
        """A function that returns an example of another identity in the shard; None if there is none."""
        own, count = self._shard.identity(self._slot), len(self._shard.rows)
        for place in (number % count for number in range(self._slot + 1, self._slot + count)):
            if own is None or self._shard.identity(place) != own:
                return partial(self._decode, self._shard.rows[place])
        return None


class _Loaded:
    """A shard in memory: samples in an epoch's order, and for each the index of another image of its identity, or its own index."""

    def __init__(self, samples: list[Stored], order: Sequence[int]):
        self.rows = [samples[number] for number in order]
        self.partners = list(range(len(order)))
        places: dict[str, list[int]] = {}
        for place in range(len(self.rows)):
            if (identity := self.identity(place)) is not None:
                places.setdefault(identity, []).append(place)
        for group in places.values():
            for place, other in zip(group, [*group[1:], group[0]], strict=True):
                self.partners[place] = other

    def identity(self, place: int) -> str | None:
        return self.rows[place][NOTES].get("identity")
