"""Batches of prepared images: shards (docs/data.md) as what a step of the training sees."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.examples import Example
from ..data.reader import Row, ShardReader
from ..data.shards import CLIP, DINO, LATENTS, Index, read_index
from ..errors import UserError
from ..models.seeds import row_generator
from .augmentation import augmented, draw_augmentation
from .batch import Batch, DataShard
from .config import Data
from .prompt_templates import photo_prompt

NOUN = "object"  # of images that say nothing of theirs: CLIP knows it as one token, and it fits whatever can be photographed
HELD_OUT = -1  # the step whose looks and sentences are the validation's
WORKERS = 4  # threads that decode and crop

log = logging.getLogger("hybridbooth")


class ShardSource:
    """Row r of step s is position s x batch + r of the shards: a function of the seed, the step and the row, whoever computes it.

    Cached: tokens and latents are those of the shards, no image is decoded and all sentences are neutral. Otherwise the encoders and
    the regressor see the reference by one look, and the target is an image, which its sentence may have put before a plain colour. Only
    where no sentence does that (neutral is 1) and the shards have latents, the target is these: so all rows of all batches have one form.

    Attributes:
        index: of the training's shards. latents: whether the targets come as latents. needs_autoencoder: whether images come that are to
            become latents.
    """

    def __init__(self, data: Data, seed: int, micro: int, sides: tuple[int, int] = (0, 0), reads_latents: bool = True):
        """Args:
            micro: the most rows of a piece of the validation.
            sides: of the images that CLIP and DINO read; not needed with cached tokens.
            reads_latents: whether the regressor does; one that does not gets no reference of its own.
        Raises:
            UserError: no shards are named, a folder is no finished one, or lacks what is asked of it.
        """
        if data.shards is None:
            raise UserError("expected --data.shards with a folder made by `hybridbooth prepare`, found none; prepare images first")
        self._data, self._seed, self._micro, self._sides, self._reads_latents = data, seed, micro, sides, reads_latents
        self._folder = data.shards
        self._held_out = self._reader()
        self.index = self._held_out.index
        self.latents = data.cached or (LATENTS in features_of(self.index) and data.neutral == 1)
        self.needs_autoencoder = not data.cached and (reads_latents or not self.latents)
        _check_cached(data, self.index)
        if data.validation is not None:
            self._held_out = self._validation(data.validation)
        _tell_nouns(self.index)

    def batches(self, step: int, share: DataShard) -> Iterator[Batch]:
        """See `batch.Source`.

        Raises:
            UserError: the processes cannot share the interleaved shards, or a shard is missing, unreadable or not what was prepared.
        """
        if self._data.interleave % share.world:
            raise UserError(
                f"{self._data.interleave} interleaved shards do not divide among {share.world} processes; "
                "change --data.interleave to a multiple"
            )
        rows = self._reader(share.rank, share.world).rows(step * share.batch)
        with ThreadPoolExecutor(WORKERS, "pictures") as pool:
            while True:
                for micro in range(share.accumulation):
                    numbers = share.rows(micro)
                    yield self._batch(pool, self._data, step, numbers, list(islice(rows, len(numbers))))
                step += 1

    def held_out(self, count: int) -> list[Batch]:
        """See `batch.Source`: the first positions of the validation's shards, or else of the training's, `count` of them or all there are.

        Looked at as a person's masked image is, with sentences that fit any image.
        """
        plain = replace(self._data, neutral=1, condition_drop=0, masked=1, background=0, augment=0)
        count = min(count, self._held_out.epoch_length)
        rows = self._held_out.rows()
        pieces = [range(first, min(first + self._micro, count)) for first in range(0, count, self._micro)]
        with ThreadPoolExecutor(WORKERS, "pictures") as pool:
            return [self._batch(pool, plain, HELD_OUT, list(piece), list(islice(rows, len(piece)))) for piece in pieces]

    def _reader(self, rank: int = 0, world: int = 1) -> ShardReader:
        return ShardReader(self._folder, self._seed, rank, world, self._data.interleave, images=not self._data.cached)

    def _validation(self, folder: Path) -> ShardReader:
        """The reader of the validation's shards, which must be of the training's kind; in one order, whatever the seed."""
        reader = ShardReader(folder, interleave=min(self._data.interleave, read_index(folder).samples), images=not self._data.cached)
        used = [CLIP, DINO, LATENTS] if self._data.cached else [LATENTS] if self.latents else []
        mine, theirs = features_of(self.index), features_of(reader.index)
        differ = [name for name in used if mine.get(name) != theirs.get(name)]
        if self.index.config.get("size") != reader.index.config.get("size"):
            differ.append("size")
        if differ:
            raise UserError(
                f"the validation's shards {folder} have another {', '.join(differ)} than those of the training; prepare both by the same "
                "settings"
            )
        return reader

    def _batch(self, pool: ThreadPoolExecutor, data: Data, step: int, numbers: Sequence[int], rows: Sequence[Row]) -> Batch:
        generators = [row_generator(self._seed, step, number) for number in numbers]
        made = list(pool.map(self._cached if data.cached else self._looked_at, [data] * len(rows), generators, rows))
        columns = {name: torch.stack([getattr(row, name) for row in made]) for name in ("clip", "dino", "reference", "target", "masks")}
        return Batch(
            rows=numbers,
            masked=torch.tensor([row.masked for row in made]),
            nouns=[row.noun for row in made],
            templates=[row.sentence for row in made],
            **columns,
        )

    def _cached(self, data: Data, generator: torch.Generator, row: Row) -> _Made:
        target = row.target
        reference = row.partner if data.cross_pairs else target
        sentence, _ = photo_prompt(data, generator, None, None)
        tensors = reference.clip, reference.dino, reference.reference_latents, target.latents
        return self._made(target, sentence, *map(_there, tensors))

    def _looked_at(self, data: Data, generator: torch.Generator, row: Row) -> _Made:
        target = row.target
        reference = row.partner if data.cross_pairs else target
        image, mask = _there(reference.image), reference.mask
        stranger = row.stranger
        behind = [] if stranger is None else [lambda: _there(stranger().image)]
        augmentation = draw_augmentation(data, generator, len(image), behind)
        clip, dino = (augmented(image, mask, augmentation, side) for side in self._sides)
        regressor = augmented(image, mask, augmentation, len(image)) if self._reads_latents else clip
        sentence, drawn = photo_prompt(data, generator, target.image, target.mask)
        return self._made(target, sentence, clip, dino, regressor, _there(target.latents if self.latents else drawn))

    def _made(self, target: Example, sentence: tuple[str, str], clip: Tensor, dino: Tensor, reference: Tensor, drawn: Tensor) -> _Made:
        side = self.index.config["size"]
        mask = torch.ones(side, side) if target.mask is None else target.mask
        return _Made(clip, dino, reference, drawn, mask, target.mask is not None, target.class_word or NOUN, sentence)


@dataclass(frozen=True, eq=False)
class _Made:
    """One row of a `Batch`."""

    clip: Tensor
    dino: Tensor
    reference: Tensor
    target: Tensor
    masks: Tensor
    masked: bool
    noun: str
    sentence: tuple[str, str]


def features_of(index: Index) -> dict[str, Any]:
    """What an index says of cached features: by the names of the tensors, and empty without."""
    features = index.config.get("features")
    return features if isinstance(features, dict) else {}


def _check_cached(data: Data, index: Index) -> None:
    lacks = [name for name in (CLIP, DINO, LATENTS) if name not in features_of(index)]
    if data.cached and lacks:
        raise UserError(
            f"expected shards with cached features, but {data.shards} has no {', '.join(lacks)}; prepare the images with --model and "
            "--encoders, or train without --data.cached"
        )


def _tell_nouns(index: Index) -> None:
    named = index.counts.get("with_class")
    if isinstance(named, int) and named < index.samples:
        log.warning("%d of %d images have no class noun; theirs is %r", index.samples - named, index.samples, NOUN)


def _there(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise ValueError("expected what the index of the shards promises, found nothing")
    return tensor
