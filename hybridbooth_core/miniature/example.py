"""The demo's example: a creature of the test split, its reference image, six scenes with true renders, and the judge's scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoders.features import Reference
from ..errors import UserError
from .bundle import load_miniature
from .captions import scene_prompt
from .evaluate import class_nouns, join, reference_of, score
from .render import render
from .world import creatures, scene, split_numbers

SCENES = (
    ("snow", "middle", "big", "none", "photo"),
    ("grass", "left", "small", "hat", "photo"),
    ("water", "right", "big", "crown", "photo"),
    ("sand", "left", "big", "hat", "sunset"),
    ("brick", "middle", "small", "none", "night"),
    ("space", "middle", "big", "crown", "photo"),
)


@dataclass(frozen=True, eq=False)
class Example:
    """A subject for the demo.

    Attributes:
        ref: one image with its mask.
        titles, prompts: of S scenes; prompts contain `<subject>`.
        truth: true images [S, H, W, 3] of the subject in the scenes, or None if unknown.
        judge: maps images [S, H, W, 3] to their mean identity score (1 the same, about 0 another) and prompt score (0..1), or None.
    """

    ref: Reference
    noun: str
    titles: tuple[str, ...]
    prompts: tuple[str, ...]
    truth: Tensor | None = None
    judge: Callable[[Tensor], tuple[float, float]] | None = None


def example(number: int) -> Example:
    """Test creature `number`, 0 to 9999; UserError for another number."""
    try:
        who = creatures(split_numbers("test", 1, number))
    except ValueError as error:
        raise UserError(str(error)) from error
    where = join([scene(*words) for words in SCENES])
    everyone = who[torch.zeros(len(where), dtype=torch.long)]
    prompts = [" ".join(map(str, scene_prompt(where, row, ["<subject>"]))) for row in range(len(where))]
    world = load_miniature()

    def judge(images: Tensor) -> tuple[float, float]:
        found = score(world.judge, images, everyone, where, (1, len(where)))
        return found.identity.mean().item(), found.prompt.mean().item()

    truth, _ = render(everyone, where)
    return Example(reference_of(who, 0), class_nouns(who)[0], tuple(map(_title, SCENES)), tuple(prompts), truth, judge)


def _title(words: tuple[str, str, str, str, str]) -> str:
    background, place, size, accessory, style = words
    where = "in space" if background == "space" else f"on {background}"
    first = f"{size}, {'with a ' + accessory if accessory != 'none' else place}"
    return f"{first}\n{where}{'' if style == 'photo' else ', at ' + style}"
