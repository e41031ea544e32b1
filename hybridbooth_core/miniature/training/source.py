"""Training batches of the miniature: pairs of images of train creatures, rendered on the fly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ...models.seeds import new_generator, row_generator
from ...refine.captions import TEMPLATES
from ...training.augmentation import augmented_batch, draw_augmentation
from ...training.batch import Batch, DataShard
from ...training.config import Data
from ...training.prompt_templates import EMBEDDINGS_ONLY
from ..captions import scene_prompt
from ..evaluate import class_nouns
from ..render import SIZE, render
from ..world import SPLITS, Creatures, Scenes, creatures, random_scenes, repeat, split_numbers

Draw = Callable[[int, torch.Generator], Tensor]
"""Draws so many creature numbers, int64."""


def train_numbers(count: int, generator: torch.Generator) -> Tensor:
    """Random train creatures."""
    return torch.randint(len(SPLITS["train"]), (count,), generator=generator) + SPLITS["train"].start


def those(belong: Callable[[Creatures], Tensor]) -> Draw:
    """Draws random train creatures of which `belong` says so (bool [B])."""

    def draw(count: int, generator: torch.Generator) -> Tensor:
        found = torch.empty(0, dtype=torch.long)
        while len(found) < count:
            numbers = train_numbers(8 * count, generator)
            found = torch.cat([found, numbers[belong(creatures(numbers))]])
        return found[:count]

    return draw


class MiniatureSource:
    """The reference shows a creature in one scene, the target in another, and the prompt describes the target's scene.

    So the token embeddings cannot copy the reference's scene.
    """

    def __init__(self, data: Data, seed: int, draw: Draw = train_numbers):
        """`draw` chooses the creatures of a training batch."""
        self._data, self._seed, self._draw = data, seed, draw

    def batches(self, step: int, shard: DataShard) -> Iterator[Batch]:
        while True:
            for micro in range(shard.accumulation):
                yield self._batch(step, shard.rows(micro), shard.batch)
            step += 1

    def held_out(self, count: int) -> list[Batch]:
        """`count` tune creatures in fixed scenes, without augmentation."""
        who = repeat(creatures(split_numbers("tune", count)), 2)
        where = random_scenes(len(who), new_generator(5))
        plain = Data(cached=self._data.cached, neutral=0, condition_drop=0, masked=1, background=0, augment=0)
        return [self._rows_of(who, where, rows, plain, -1) for rows in _parts(count, 32)]

    def _batch(self, step: int, rows: Sequence[int], count: int) -> Batch:
        generator = row_generator(self._seed, step, -2)
        who = repeat(creatures(self._draw(count, generator)), 2)
        return self._rows_of(who, random_scenes(len(who), generator), rows, self._data, step)

    def _rows_of(self, who: Creatures, where: Scenes, rows: Sequence[int], data: Data, step: int) -> Batch:
        """A batch of the given rows. `who` and `where` list reference and target of every row alternately; only these rows are rendered."""
        generators = [row_generator(self._seed, step, row) for row in rows]
        first = torch.tensor(list(rows)) * 2
        images, masks = render(who[torch.cat([first, first + 1])], where[torch.cat([first, first + 1])])
        reference, target = images.chunk(2)
        # without changes of brightness, since creatures differ in it
        augmentations = [draw_augmentation(data, generator, SIZE, [], light=False) for generator in generators]
        crops = augmented_batch(list(reference), list(masks[: len(rows)]), augmentations, SIZE)
        return Batch(
            rows=rows,
            clip=crops,
            dino=crops,
            reference=crops,
            target=target,
            masks=masks[len(rows) :],
            masked=torch.ones(len(rows), dtype=torch.bool),
            nouns=class_nouns(who[first]),
            templates=[_template(data, where, row, generator) for row, generator in zip((first + 1).tolist(), generators, strict=True)],
        )


def _template(data: Data, where: Scenes, row: int, generator: torch.Generator) -> tuple[str, str]:
    alone, plain = (torch.rand(2, generator=generator) < torch.tensor([data.condition_drop, data.neutral])).tolist()
    if alone:
        return EMBEDDINGS_ONLY
    if plain:
        template = TEMPLATES[int(torch.randint(len(TEMPLATES), (), generator=generator))]
        return template[0], ""  # the miniature's vocabulary has no words for the other templates
    before, _, after = scene_prompt(where, row, [""], keep=0.9, generator=generator)
    return str(before), str(after)


def _parts(count: int, size: int) -> list[list[int]]:
    return [list(range(first, min(first + size, count))) for first in range(0, count, size)]
