"""Batches from shards of prepared images (docs/data.md)."""

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

NOUN = "object"  # for images without a class noun: one token in CLIP, and it fits anything
HELD_OUT = -1  # the step number of validation batches
WORKERS = 4  # threads for decoding and cropping

log = logging.getLogger("hybridbooth")


class ShardSource:
    """Row r of step s is position s x batch + r in the shards, whichever process computes it.

    With cached features, tokens and latents come from the shards, no image is decoded, and templates are neutral unless the shards have
    prompts. Otherwise encoders
    and regressor see the same augmentation of the reference, and the target is an image whose background a template may have replaced. If
    no template does that (`neutral` is 1) and the shards have latents, the targets are latents. So all batches have the same form.

    Attributes:
        index: of the training shards. latents: whether targets are latents. needs_autoencoder: whether batches contain images to encode.
    """

    def __init__(self, data: Data, seed: int, micro: int, sides: tuple[int, int] = (0, 0), reads_latents: bool = True):
        """Args:
            micro: rows per validation batch.
            sides: image sizes of CLIP and DINO; not needed with cached tokens.
            reads_latents: whether the regressor reads latents; otherwise `Batch.reference` is the crop for CLIP.
        Raises:
            UserError: no shards are given, a folder is not complete, or lacks features that are needed.
        """
        if data.shards is None:
            raise UserError("expected --data.shards with a folder made by `hybridbooth prepare`, found none; prepare the images first")
        self._data, self._seed, self._micro, self._sides, self._reads_latents = data, seed, micro, sides, reads_latents
        self._folder = data.shards
        self._held_out = self._reader()
        self.index = self._held_out.index
        self.latents = data.cached or (LATENTS in features_of(self.index) and data.neutral == 1)
        self.needs_autoencoder = not data.cached and (reads_latents or not self.latents)
        _check_cached(data, self.index)
        if data.validation is not None:
            self._held_out = self._validation(data.validation)
        _warn_about_nouns(self.index)

    def batches(self, step: int, shard: DataShard) -> Iterator[Batch]:
        """See `batch.Source`.

        Raises:
            UserError: `interleave` is not a multiple of the number of processes, or a shard is missing, unreadable, or was changed.
        """
        if self._data.interleave % shard.world:
            raise UserError(
                f"{self._data.interleave} interleaved shards do not divide among {shard.world} processes; "
                "change --data.interleave to a multiple"
            )
        rows = self._reader(shard.rank, shard.world).rows(step * shard.batch)
        with ThreadPoolExecutor(WORKERS, "images") as pool:
            while True:
                for micro in range(shard.accumulation):
                    numbers = shard.rows(micro)
                    yield self._batch(pool, self._data, step, numbers, list(islice(rows, len(numbers))))
                step += 1

    def held_out(self, count: int) -> list[Batch]:
        """See `batch.Source`: the first `count` positions (or all) of the validation shards, or of the training shards without any.

        Not augmented, with neutral templates.
        """
        plain = replace(self._data, neutral=1, condition_drop=0, masked=1, background=0, augment=0)
        count = min(count, self._held_out.epoch_length)
        rows = self._held_out.rows()
        pieces = [range(first, min(first + self._micro, count)) for first in range(0, count, self._micro)]
        with ThreadPoolExecutor(WORKERS, "images") as pool:
            return [self._batch(pool, plain, HELD_OUT, list(piece), list(islice(rows, len(piece)))) for piece in pieces]

    def _reader(self, rank: int = 0, world: int = 1) -> ShardReader:
        return ShardReader(self._folder, self._seed, rank, world, self._data.interleave, images=not self._data.cached)

    def _validation(self, folder: Path) -> ShardReader:
        """A reader of the validation shards, in an order that does not depend on the seed. They must match the training shards."""
        reader = ShardReader(folder, interleave=min(self._data.interleave, read_index(folder).samples), images=not self._data.cached)
        used = [CLIP, DINO, LATENTS] if self._data.cached else [LATENTS] if self.latents else []
        mine, theirs = features_of(self.index), features_of(reader.index)
        differ = [name for name in used if mine.get(name) != theirs.get(name)]
        if self.index.config.get("size") != reader.index.config.get("size"):
            differ.append("size")
        if differ:
            raise UserError(
                f"the validation shards {folder} differ from the training shards in {', '.join(differ)}; prepare both with the "
                "same settings"
            )
        return reader

    def _batch(self, pool: ThreadPoolExecutor, data: Data, step: int, numbers: Sequence[int], rows: Sequence[Row]) -> Batch:
        generators = [row_generator(self._seed, step, number) for number in numbers]
        computed = list(pool.map(self._cached_row if data.cached else self._image_row, [data] * len(rows), generators, rows))
        tensors = {name: torch.stack([getattr(row, name) for row in computed]) for name in ("clip", "dino", "reference", "target", "masks")}
        return Batch(
            rows=numbers,
            masked=torch.tensor([row.masked for row in computed]),
            nouns=[row.noun for row in computed],
            templates=[row.template for row in computed],
            **tensors,
        )

    def _cached_row(self, data: Data, generator: torch.Generator, row: Row) -> _Row:
        target = row.target
        reference = row.partner if data.cross_pairs else target
        template, _ = photo_prompt(data, generator, None, None, target.prompt)
        tensors = reference.clip, reference.dino, reference.reference_latents, target.latents
        return self._row(target, template, *map(_required, tensors))

    def _image_row(self, data: Data, generator: torch.Generator, row: Row) -> _Row:
        target = row.target
        reference = row.partner if data.cross_pairs else target
        image, mask = _required(reference.image), reference.mask
        other = row.other_identity
        backdrops = [] if other is None else [lambda: _required(other().image)]
        augmentation = draw_augmentation(data, generator, len(image), backdrops)
        clip, dino = (augmented(image, mask, augmentation, side) for side in self._sides)
        regressor = augmented(image, mask, augmentation, len(image)) if self._reads_latents else clip
        template, drawn = photo_prompt(data, generator, target.image, target.mask, target.prompt)
        return self._row(target, template, clip, dino, regressor, _required(target.latents if self.latents else drawn))

    def _row(self, target: Example, template: tuple[str, str], clip: Tensor, dino: Tensor, reference: Tensor, drawn: Tensor) -> _Row:
        side = self.index.config["size"]
        mask = torch.ones(side, side) if target.mask is None else target.mask
        return _Row(clip, dino, reference, drawn, mask, target.mask is not None, target.class_word or NOUN, template)


@dataclass(frozen=True, eq=False)
class _Row:
    """One row of a `Batch`."""

    clip: Tensor
    dino: Tensor
    reference: Tensor
    target: Tensor
    masks: Tensor
    masked: bool
    noun: str
    template: tuple[str, str]


def features_of(index: Index) -> dict[str, Any]:
    """The index's entries about cached features by tensor name; empty without cached features."""
    features = index.config.get("features")
    return features if isinstance(features, dict) else {}


def _check_cached(data: Data, index: Index) -> None:
    lacks = [name for name in (CLIP, DINO, LATENTS) if name not in features_of(index)]
    if data.cached and lacks:
        raise UserError(
            f"expected shards with cached features, but {data.shards} has no {', '.join(lacks)}; prepare the images with --model and "
            "--encoders, or train without --data.cached"
        )


def _warn_about_nouns(index: Index) -> None:
    named = index.counts.get("with_class")
    if isinstance(named, int) and named < index.samples:
        log.warning("%d of %d images have no class noun; using %r", index.samples - named, index.samples, NOUN)


def _required(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise ValueError("expected a tensor that the index of the shards lists, found none")
    return tensor
