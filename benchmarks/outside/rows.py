"""The rows of the tables: what stands for a creature in a prompt, by every method that is compared.

Axes: N creatures, n token embeddings of width d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridbooth_core.encoders.features import Reference, extract_features
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.miniature.captions import scene_prompt
from hybridbooth_core.miniature.evaluate import reference_scene
from hybridbooth_core.miniature.world import Creatures
from hybridbooth_core.models.adapter import Piece, class_embedding
from hybridbooth_core.probe.probe import Features, Probe
from hybridbooth_core.probe_free.refining import REFINING
from hybridbooth_core.refine.captions import SUBJECT
from hybridbooth_core.refine.config import RefineConfig
from hybridbooth_core.refine.many import refine_many
from hybridbooth_core.refine.refine import Refinement, refine


@dataclass(frozen=True, eq=False)
class Someone:
    """What a method gets of N creatures."""

    refs: Sequence[Reference]
    nouns: Sequence[str]
    features: Sequence[Features]
    vectors: Sequence[Tensor]  # [d] each, the class nouns' embeddings
    captions: Sequence[str]  # what the reference photos show, for the rows that are told


def someone(world: Miniature, refs: Sequence[Reference], nouns: Sequence[str], captions: Sequence[str] = ()) -> Someone:
    features = [extract_features(world.model, world.clip, world.dino, ref) for ref in refs]
    with torch.no_grad():
        vectors = [class_embedding(world.model, noun) for noun in nouns]
    return Someone(refs, nouns, features, vectors, captions)


def captions_of(who: Creatures) -> list[str]:
    """What a user would say of each creature's reference photo: its whole scene."""
    said = []
    for row in range(len(who)):
        before, _, after = scene_prompt(reference_scene(who, row), 0, [""])
        said.append(f"{before} {SUBJECT} {after}")
    return said


def of_probe(config: RefineConfig) -> Callable[[Miniature, Probe, Someone], list[Refinement]]:
    """The probe's prediction, refined."""

    def make(world: Miniature, probe: Probe, who: Someone) -> list[Refinement]:
        if config.resolved.mode == "words":
            return refine_many(world.model, who.refs, who.vectors, config, probe, who.features)
        rows = zip(who.refs, who.vectors, who.features, strict=True)
        return [refine(world.model, ref, vector, config, probe, features) for ref, vector, features in rows]

    return make


def without_probe(world: Miniature, probe: Probe, who: Someone) -> list[Refinement]:
    """The class noun in every token's place, refined by the default for such a start (`methods.from_noun`)."""
    starts = [vector.repeat(probe.config.num_tokens, 1) for vector in who.vectors]
    return refine_many(world.model, who.refs, who.vectors, REFINING, starts=starts)


def captioned(config: RefineConfig) -> Callable[[Miniature, Probe, Someone], list[Refinement]]:
    """The probe's prediction, refined with the photo's scene said."""

    def make(world: Miniature, probe: Probe, who: Someone) -> list[Refinement]:
        return refine_many(world.model, who.refs, who.vectors, config, probe, who.features, captions=who.captions)

    return make


DEFAULT = "default"
ROWS: dict[str, Callable[[Miniature, Probe, Someone], list[Refinement]]] = {
    "probe": of_probe(RefineConfig(mode="words", steps=0)),
    DEFAULT: of_probe(RefineConfig()),
    "anchored_10": of_probe(RefineConfig(mode="words", steps=10, anchor=1.0)),
    "words_5": of_probe(RefineConfig(mode="words", steps=5, anchor=0.0)),
    "words_10": of_probe(RefineConfig(mode="words", steps=10, anchor=0.0)),
    "words_25": of_probe(RefineConfig(mode="words", steps=25, anchor=0.0)),
    "anchored_25": of_probe(RefineConfig(mode="words", steps=25, anchor=1.0)),
    "paper_5": of_probe(RefineConfig(mode="residual", steps=5)),
    "no_probe_30": without_probe,
}


def pieces(world: Miniature, probe: Probe, who: Someone, rows: Sequence[str]) -> tuple[dict[str, list[Piece]], dict[str, list[int]]]:
    """What stands for the creatures by row, the class noun first, and the steps that were taken for each."""
    made = {row: ROWS[row](world, probe, who) for row in rows}
    found: dict[str, list[Piece]] = {"class_noun": list(who.nouns)}
    found |= {row: [result.embeddings for result in results] for row, results in made.items()}
    return found, {row: [len(result.losses) for result in results] for row, results in made.items()}
