"""Evaluates subjects in new scenes by the judge, with equal scenes and initial noise for every method.

Axes: N identities, S scenes, n token embeddings of width d.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoders.features import Reference, reference
from ..models.adapter import Piece, Prompt, Written
from ..models.diffusers_adapter import DiffusersModel
from ..models.sampling import generate, initial_noise
from ..models.seeds import new_generator
from .captions import scene_prompt
from .judging import accuracies, identity_score
from .nets import Judge
from .render import render
from .world import KINDS, Creatures, Scenes, random_scenes, repeat, scene
from .world_model import LATENT_SHAPE

EVALUATION_SCENES = (
    scene("snow", "middle", "big", "none", "photo"),
    scene("grass", "left", "small", "hat", "photo"),
    scene("water", "right", "big", "crown", "photo"),
    scene("brick", "middle", "small", "none", "night"),
    scene("sand", "left", "big", "hat", "sunset"),
    scene("space", "right", "small", "crown", "photo"),
    scene("grass", "middle", "big", "none", "sketch"),
    scene("snow", "right", "big", "hat", "night"),
)
"""The eight evaluation prompts: every background, place, size, accessory and style at least once."""


def join(scenes: Sequence[Scenes]) -> Scenes:
    """Concatenates batches of scenes."""
    return Scenes(**{name: torch.cat([getattr(s, name) for s in scenes]) for name in vars(scenes[0])})


def reference_scene(who: Creatures, row: int) -> Scenes:
    """The scene of a creature's reference photo, seeded by the creature's number."""
    where = random_scenes(1, new_generator(int(who.number[row])))
    return Scenes(**{**vars(where), "style": torch.zeros(1, dtype=torch.long)})


def reference_of(who: Creatures, row: int) -> Reference:
    """The reference that methods get of a creature: one photo in its `reference_scene`, with its exact mask."""
    return reference(*render(who[row : row + 1], reference_scene(who, row)))


@dataclass(frozen=True)
class Scores:
    """Scores per image, float32 [N, S]: `identity` (a cosine), `prompt` (1 if the whole scene is right, else 0), `kind` (1 or 0)."""

    identity: Tensor
    prompt: Tensor
    kind: Tensor


@torch.no_grad()
def evaluate(
    model: DiffusersModel,
    judge: Judge,
    who: Creatures,
    subjects: Sequence[Piece | Prompt],
    scenes: Sequence[Scenes] = EVALUATION_SCENES,
    seed: int = 0,
    steps: int = 15,
    guidance: float = 3.0,
) -> Scores:
    """Generates N subjects (embeddings [n, d], text such as the class noun, or several such pieces) in S scenes and scores the images."""
    where = join(scenes)
    images = draw(model, who, subjects, scenes, seed, steps, guidance)
    everywhere = where[torch.arange(len(where)).repeat(len(who))]
    return score(judge, images.flatten(0, 1), repeat(who, len(where)), everywhere, (len(who), len(where)))


@torch.no_grad()
def draw(
    model: DiffusersModel,
    who: Creatures,
    subjects: Sequence[Piece | Prompt],
    scenes: Sequence[Scenes] = EVALUATION_SCENES,
    seed: int = 0,
    steps: int = 15,
    guidance: float = 3.0,
    first: int = 0,
) -> Tensor:
    """Generates images [N, S, H, W, 3] of N subjects in S scenes.

    Args:
        first: the index of the first subject in the whole evaluation, so that subjects generated one by one get the same noise.
    """
    where = join(scenes)
    count, skipped = len(who) * len(where), first * len(where)
    noise = initial_noise(skipped + count, LATENT_SHAPE, seed)[skipped:]
    pieces = [[subject] if isinstance(subject, str | Tensor | Written) else subject for subject in subjects]
    prompts = [scene_prompt(where, row % len(where), pieces[row // len(where)]) for row in range(count)]
    images = torch.cat([generate(model, prompts[i : i + 64], noise[i : i + 64], steps, guidance) for i in range(0, count, 64)])
    return images.view(len(who), len(where), *images.shape[1:])


@torch.no_grad()
def score(judge: Judge, images: Tensor, who: Creatures, where: Scenes, shape: tuple[int, int]) -> Scores:
    """The scores [N, S] = `shape` of N x S images of creatures in scenes."""
    right = accuracies(judge, images, who, where)
    truth, _ = render(who, where)
    return Scores(
        identity=identity_score(judge, images, truth).view(shape),
        prompt=right["prompt"].view(shape),
        kind=right["kind"].view(shape),
    )


def class_nouns(who: Creatures) -> list[str]:
    """Each creature's class noun."""
    return [KINDS[int(kind)] for kind in who.kind]
