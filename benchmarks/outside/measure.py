"""Draws, scores and summarises: per creature first, then means and intervals over creatures.

Axes: N creatures, S scenes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

from hybridbooth_core.evaluation.statistics import interval, mean_of
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.miniature.evaluate import EVALUATION_SCENES, Scores, evaluate
from hybridbooth_core.miniature.world import Creatures
from hybridbooth_core.models.adapter import Piece

SCENES = EVALUATION_SCENES[:4]
SAMPLING_SEED = 7
WORSE = 0.02
"""A subject is worse than the probe's prediction if its identity is lower by more than this."""

Scored = dict[str, dict[str, list[float]]]
"""By row: `identity`, `prompt`, `novelty` and `steps`, a number for every creature."""


def scored(world: Miniature, who: Creatures, pieces: Mapping[str, Sequence[Piece]], steps: Mapping[str, Sequence[int]]) -> Scored:
    """The scores of every row. `novelty`, what is new of a creature of an unseen kind, is the share of images of its kind."""
    found: Scored = {}
    for row, subjects in pieces.items():
        scores = evaluate(world.model, world.judge, who, subjects, SCENES, seed=SAMPLING_SEED)
        found[row] = listed(scores, steps.get(row, [0] * len(who)))
    return found


def listed(scores: Scores, steps: Sequence[int]) -> dict[str, list[float]]:
    """The means over scenes as lists, with the steps of each creature."""
    values = {"identity": scores.identity, "prompt": scores.prompt, "novelty": scores.kind}
    means = {name: [round(value, 4) for value in table.mean(1).tolist()] for name, table in values.items()}
    return {**means, "steps": [float(count) for count in steps]}


def summary(by_creature: Mapping[str, Mapping[int, Sequence[Mapping[str, float]]]], gflop: Mapping[str, float]) -> list[dict]:
    """Table rows from scores by row and creature number, where several probes may have made a creature.

    Intervals are over creatures, of their means over probes; `share_worse` is over all subjects.
    """
    numbers = sorted(by_creature["probe"])
    probe = _means(by_creature["probe"], numbers, "identity")
    rows = []
    for name, creatures in by_creature.items():
        identity = _means(creatures, numbers, "identity")
        pairs = [
            (one["identity"], start["identity"]) for i in numbers for one, start in zip(creatures[i], by_creature["probe"][i], strict=True)
        ]
        rows.append(
            {
                "method": name,
                "steps": round(float(_means(creatures, numbers, "steps").mean()), 2),
                "identity": mean_of(identity),
                "identity_ci95": interval(identity),
                "novelty": mean_of(_means(creatures, numbers, "novelty")),
                "prompt": mean_of(_means(creatures, numbers, "prompt")),
                "minus_probe": mean_of(identity - probe),
                "minus_probe_ci95": interval(identity - probe),
                "share_worse": round(fmean(made < start - WORSE for made, start in pairs), 4),
                "gflop": round(gflop[name], 2) if name in gflop else None,
            }
        )
    return rows


def _means(creatures: Mapping[int, Sequence[Mapping[str, float]]], numbers: Sequence[int], name: str) -> Tensor:
    return torch.tensor([fmean(made[name] for made in creatures[number]) for number in numbers])
