"""Probes trained on what the base model drew itself, beside those trained on true images, with equal steps.

Only cats and rabbits are drawn, so that these probes stand beside those of kind transfer that know cats and rabbits from true renders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from hybridbooth_core.bases.miniature import Miniature as Base
from hybridbooth_core.data.drawing import subject_mask
from hybridbooth_core.data.vocabulary import Vocabulary
from hybridbooth_core.evaluation.statistics import interval, mean_of
from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.miniature.captions import describe, scene_prompt
from hybridbooth_core.miniature.drawing_words import vocabulary
from hybridbooth_core.miniature.evaluate import EVALUATION_SCENES, class_nouns, join, reference_of
from hybridbooth_core.miniature.render import render
from hybridbooth_core.miniature.training.probe import creature_subjects, miniature_context, train_probe
from hybridbooth_core.miniature.training.source import those
from hybridbooth_core.miniature.world import KINDS, creatures, repeat, split_numbers
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.training.calibration import calibrated
from hybridbooth_core.training.config import TrainConfig
from hybridbooth_core.training.own_probe import SHARDS, VIEWS, draw_shards

from .measure import scored
from .rows import DEFAULT, pieces, someone
from .transfer import MEASURED, SHORT, Split, first_of_kinds

KNOWN = Split("resampler", (0, 1), 0)
COUNTS = (500, 2000)
"""Subjects that are drawn, each in two scenes."""
SEEDS = (0, 1, 2)
ROWS = ("probe", DEFAULT)
MASKS, MASKS_KEY = 64, "drawn/masks"
"""Tune creatures whose masks are compared."""


@dataclass(frozen=True)
class Arm:
    """One probe. `count` 0: trained on true renders. `cross`: the reference is the other scene, else the target itself."""

    count: int
    seed: int
    cross: bool = True

    @property
    def kind(self) -> str:
        what = f"{self.count} drawn" if self.count else "true renders"
        return f"{what}{'' if self.cross else ', own target'}"

    @property
    def name(self) -> str:
        return f"{self.kind.replace(', ', '-').replace(' ', '-')}-{self.seed}"


def arms() -> list[Arm]:
    """True renders and the larger set with three seeds; the smaller set, and the larger one without cross pairs, with one."""
    small, large = COUNTS
    main = [Arm(count, seed) for seed in SEEDS for count in (0, large)]
    return [*main, Arm(small, SEEDS[0]), Arm(large, SEEDS[0], cross=False)]


def words() -> Vocabulary:
    """The miniature's vocabulary without the kinds that the probes are not to see."""
    whole = vocabulary()
    return replace(whole, groups=tuple(replace(group, nouns=tuple(KINDS[kind] for kind in KNOWN.kinds)) for group in whole.groups))


def train_arm(world: Miniature, arm: Arm, folder: Path) -> Probe:
    """The probe of one arm, resumed from, or only loaded from, `folder`."""
    config: TrainConfig = replace(SHORT, seed=arm.seed)
    if arm.count:
        place = folder.parent / "drawn" / f"{arm.count}"
        draw_shards(Base.drawing(world.model, arm.count, VIEWS, words()), place)
        data = replace(config.data, shards=place / SHARDS, cross_pairs=arm.cross)
        config = replace(config, data=data)
    place = folder / (arm.name if arm.count else replace(KNOWN, seed=arm.seed).name)
    probe = train_probe(config, place, world.model, world.clip, world.dino, world.judge, those(KNOWN.knows))
    context = miniature_context(replace(config, data=SHORT.data), world.model, world.clip, world.dino)
    who = first_of_kinds("tune", KNOWN.kinds, MEASURED // len(KNOWN.kinds))
    return calibrated(context, probe, creature_subjects(context, who))


def measure_arm(arm: Arm, folder: Path, each: int, world: Miniature, _: Prior) -> dict:
    """The scores of test creatures of all kinds, as `transfer.measure_split` gives them."""
    probe = train_arm(world, arm, folder)
    who = first_of_kinds("test", range(len(KINDS)), each)
    inputs = someone(world, [reference_of(who, row) for row in range(len(who))], class_nouns(who))
    found, steps = pieces(world, probe, inputs, ROWS)
    return {"numbers": who.number.tolist(), "seen": KNOWN.knows(who).tolist(), "scores": scored(world, who, found, steps)}


def measure_masks(world: Miniature, _: Prior) -> dict:
    """The overlap (intersection over union) of masks from attention with the exact ones, on true renders of tune creatures."""
    where = join(EVALUATION_SCENES[:4])
    who = repeat(creatures(split_numbers("tune", MASKS)), len(where))
    everywhere = where[torch.arange(len(where)).repeat(MASKS)]
    images, truth = render(who, everywhere)
    overlap = torch.zeros(len(who))
    for row in range(len(who)):
        prompt = scene_prompt(everywhere, row, [world.model.token_embeddings(describe(who, row))])
        found = subject_mask(world.model, images[row], prompt, seed=row)
        overlap[row] = (found * truth[row]).sum() / (found + truth[row]).clamp(0, 1).sum()
    by_creature = overlap.view(MASKS, -1).mean(1)
    return {
        "creatures": MASKS,
        "iou": mean_of(by_creature),
        "iou_ci95": interval(by_creature),
        "below_half": mean_of((overlap < 0.5).float()),
    }


def tasks(folder: Path, each: int) -> dict:
    """What is to be measured, by key."""
    found = {f"drawn/{arm.name}/{each}": partial(measure_arm, arm, folder, each) for arm in arms()}
    return found | {MASKS_KEY: measure_masks}


def table(records: Mapping[str, dict], each: int) -> list[dict]:
    """One row for every kind of arm, row and whether the kind was seen, with the difference to true renders of the same seeds."""
    rows = []
    for kind in dict.fromkeys(arm.kind for arm in arms()):
        seeds = [arm.seed for arm in arms() if arm.kind == kind]
        mine = [arm for arm in arms() if arm.kind == kind]
        true = [Arm(0, seed) for seed in seeds]
        for seen in (True, False):
            for row in ROWS:
                identity, prompt = (_by_creature(records, each, mine, row, seen, name) for name in ("identity", "prompt"))
                difference = identity - _by_creature(records, each, true, row, seen, "identity")
                rows.append(
                    {
                        "trained_on": kind,
                        "seeds": len(seeds),
                        "kind": "seen kinds" if seen else "unseen kinds",
                        "method": row,
                        "identity": mean_of(identity),
                        "identity_ci95": interval(identity),
                        "prompt": mean_of(prompt),
                        "minus_true": mean_of(difference),
                        "minus_true_ci95": interval(difference),
                    }
                )
    return rows


def _by_creature(records: Mapping[str, dict], each: int, of: Sequence[Arm], row: str, seen: bool, name: str) -> torch.Tensor:
    """Means over the probes of some arms, for every creature whose kind was seen or was not."""
    found = [records[f"drawn/{arm.name}/{each}"] for arm in of]
    chosen = torch.tensor(found[0]["seen"]) == seen
    return torch.tensor([one["scores"][row][name] for one in found]).mean(0)[chosen]
