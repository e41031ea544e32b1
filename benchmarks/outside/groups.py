"""A probe that knows a declared part of the family of creatures, and groups of creatures that lie outside it in one respect.

The base model knows all of them, as a community checkpoint knows a person's dog; the probe was trained on the part `KNOWN` only.

Axes: B creatures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from hybridbooth_core.encoders.features import Reference
from hybridbooth_core.files.subject import Subject, SubjectInfo
from hybridbooth_core.methods.artefact import Artefact
from hybridbooth_core.methods.polished import PolishConfig, polish
from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.methods.registry import METHODS, run_method
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.miniature.evaluate import class_nouns, draw, join, reference_of, score
from hybridbooth_core.miniature.training.probe import CONFIG, creature_subjects, miniature_context, train_probe
from hybridbooth_core.miniature.training.source import those
from hybridbooth_core.miniature.world import KINDS, PATTERNS, Creatures, creatures, repeat, split_numbers
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.refine.config import RefineConfig
from hybridbooth_core.training.calibration import calibrated

from ..family.pool import Task
from .measure import SAMPLING_SEED, SCENES, listed, scored, summary
from .photos import bad_reference
from .rows import DEFAULT, captioned, captions_of, pieces, someone

KNOWN: dict[str, Callable[[Creatures], Tensor]] = {
    "kinds": lambda who: who.kind < len(KINDS) // 2,  # cats and rabbits
    "patterns": lambda who: who.pattern < len(PATTERNS) // 2,  # plain, striped, banded
    "tones": lambda who: who.hue[:, 0] < 0.5,  # red over yellow to green
    "shapes": lambda who: (who.aspect < 0.5) & (who.ear < 0.5),  # narrow, with short ears
}
"""What the probe is trained on, by what it says about a creature (bool [B])."""
GROUPS = ("inside", *KNOWN, "photos")
"""inside: known in every respect. The others lie outside in the one that they are named after; of `photos` only the photo is bad."""
SCHEDULE = replace(
    CONFIG,
    steps=2000,
    optim=replace(CONFIG.optim, ema=0.995),
    log=replace(CONFIG.log, grid_every=0, validate_every=1000, validation_samples=24, keep=1),
)
MEASURED = 32
"""Tune creatures inside, on which a probe is calibrated."""
SEEDS = (0,)
EACH = 10
"""Test creatures of every group."""
CAPTIONED, POLISHED, ALONE = "captioned", "polished", "no_probe_30"
OF_PROBE = ("probe", DEFAULT, "words_25", "paper_5")
RIVALS = {"textual_inversion_5": {"steps": 100}, "custom_diffusion": {}, "dreambooth_lora": {}}
"""Methods that train, at the miniature's default rates. Not at their best: docs/family.md found other rates and steps for each."""


def belong(who: Creatures, group: str = "inside") -> Tensor:
    """Whether each creature is of a group, bool [B]."""
    found = torch.ones(len(who), dtype=torch.bool)
    for name, known in KNOWN.items():
        found &= _opposite(who) if name == group == "shapes" else known(who) != (name == group)
    return found


def _opposite(who: Creatures) -> Tensor:
    """Wide, with long ears: a creature with one of both is neither inside nor outside."""
    return (who.aspect >= 0.5) & (who.ear >= 0.5)


def first_of(split: str, group: str, count: int, start: int = 0) -> Creatures:
    """The creatures `start ... start + count - 1` of a group in a split."""
    who = creatures(split_numbers(split, 10_000))
    return who[belong(who, group).nonzero()[start : start + count, 0]]


def references_of(who: Creatures, group: str) -> list[Reference]:
    """One reference photo of each creature."""
    return [bad_reference(who, row) if group == "photos" else reference_of(who, row) for row in range(len(who))]


def train_known(world: Miniature, seed: int, folder: Path) -> Probe:
    """The probe of one seed, resumed from, or only loaded from, `folder`; it is calibrated on tune creatures inside."""
    config = replace(SCHEDULE, seed=seed)
    probe = train_probe(config, folder / f"known-{seed}", world.model, world.clip, world.dino, world.judge, those(belong))
    context = miniature_context(config, world.model, world.clip, world.dino)
    who = first_of("tune", "inside", MEASURED)
    return calibrated(context, probe, creature_subjects(context, who))


def measure_known(group: str, seed: int, folder: Path, world: Miniature, _: Prior) -> dict:
    """The scores of test creatures of a group by the rows that need a probe: `numbers` and `scores`, as `measure.scored` gives them."""
    probe, who = train_known(world, seed, folder), first_of("test", group, EACH)
    inputs = someone(world, references_of(who, group), class_nouns(who), captions_of(who))
    found, steps = pieces(world, probe, inputs, OF_PROBE)
    told = captioned(RefineConfig())(world, probe, inputs)
    found[CAPTIONED], steps[CAPTIONED] = [made.embeddings for made in told], [len(made.losses) for made in told]
    scores = scored(world, who, found, steps)
    polished = [
        polish(
            world.model, inputs.refs[row], _subject(made.embeddings, inputs.nouns[row]), _polishing(world, inputs.captions[row])
        ).artefact
        for row, made in enumerate(told)
    ]
    count = METHODS[POLISHED].configuration(world.model.family).steps
    scores[POLISHED] = artefact_scores(world, who, polished, [taken + count for taken in steps[CAPTIONED]])
    return {"numbers": who.number.tolist(), "scores": scores}


def _subject(embeddings: Tensor, noun: str) -> Subject:
    return Subject(embeddings, SubjectInfo(class_noun=noun))


def _polishing(world: Miniature, caption: str) -> PolishConfig:
    return METHODS[POLISHED].configuration(world.model.family, caption=caption)


def measure_without(group: str, world: Miniature, prior: Prior) -> dict:
    """The same by the rows that need none, once for all seeds."""
    who = first_of("test", group, EACH)
    inputs = someone(world, references_of(who, group), class_nouns(who))
    found, steps = pieces(world, world.probe, inputs, [ALONE])
    scores = scored(world, who, {ALONE: found[ALONE]}, steps)
    for name, options in RIVALS.items():
        made = [
            run_method(name, world.model, ref, noun, prior=prior, **options) for ref, noun in zip(inputs.refs, inputs.nouns, strict=True)
        ]
        scores[name] = artefact_scores(world, who, [one.artefact for one in made], [len(one.losses) for one in made])
    return {"numbers": who.number.tolist(), "scores": scores}


def artefact_scores(world: Miniature, who: Creatures, artefacts: Sequence[Artefact], steps: Sequence[int]) -> dict[str, list[float]]:
    """The scores of subjects that change the model, drawn one by one with the noise of `measure.scored`."""
    where, images = join(SCENES), []
    for row, artefact in enumerate(artefacts):
        with artefact.applied(world.model) as subject:
            images.append(draw(world.model, who[row : row + 1], [list(subject)], SCENES, SAMPLING_SEED, first=row))
    everywhere = where[torch.arange(len(where)).repeat(len(who))]
    scores = score(world.judge, torch.cat(images).flatten(0, 1), repeat(who, len(where)), everywhere, (len(who), len(where)))
    return listed(scores, steps)


def tasks(folder: Path) -> dict[str, Task]:
    """What is to be measured, by key."""
    found: dict[str, Task] = {f"known/{group}/{seed}": partial(measure_known, group, seed, folder) for seed in SEEDS for group in GROUPS}
    return found | {f"without/{group}": partial(measure_without, group) for group in GROUPS}


def table(records: Mapping[str, dict], gflop: Mapping[str, Mapping[str, float]]) -> list[dict]:
    """The rows of every group, and of all groups outside together. `gflop`: operations by kind and row."""
    rows = []
    for kind, groups in {**{group: [group] for group in GROUPS}, "all outside": GROUPS[1:]}.items():
        found: dict[str, dict[int, list[dict[str, float]]]] = {}
        for group in groups:
            for key in [f"known/{group}/{seed}" for seed in SEEDS]:
                for record in (records[key], records[f"without/{group}"]):
                    for row, values in record["scores"].items():
                        for index, number in enumerate(record["numbers"]):
                            # a bad photo is another subject than the good one of the same creature
                            made = {name: numbers[index] for name, numbers in values.items()}
                            found.setdefault(row, {}).setdefault(number if group != "photos" else -number, []).append(made)
        rows += [{"kind": kind, **row} for row in summary(found, gflop.get(kind, {}))]
    return rows
