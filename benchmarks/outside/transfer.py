"""Kind transfer: probes trained on two kinds of creature, used on the other two; the base model knows all four."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import torch

from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.miniature.evaluate import class_nouns, reference_of
from hybridbooth_core.miniature.training.probe import CONFIG, creature_subjects, miniature_context, train_probe
from hybridbooth_core.miniature.training.source import those
from hybridbooth_core.miniature.world import KINDS, Creatures, creatures, split_numbers
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.training.calibration import calibrated
from hybridbooth_core.training.config import ProbeShape

from .measure import scored, summary
from .rows import ROWS, pieces, someone

SHORT = replace(
    CONFIG,
    steps=600,
    batch=16,
    micro_batch=16,
    optim=replace(CONFIG.optim, ema=0.98),
    log=replace(CONFIG.log, grid_every=0, validate_every=600, validation_samples=8, keep=1),
)
MEASURED = 32
"""Tune creatures on which a probe is calibrated."""
SEEDS, REGRESSORS = (0, 1, 2), ("resampler", "promptnet")


@dataclass(frozen=True)
class Split:
    """A probe that knows two kinds: its regressor, the kinds (indices into KINDS) and the seed of its training."""

    regressor: str
    kinds: tuple[int, int]
    seed: int

    @property
    def name(self) -> str:
        return f"{self.regressor}-{'-'.join(KINDS[kind] for kind in self.kinds)}-{self.seed}"

    def knows(self, who: Creatures) -> torch.Tensor:
        """Whether the probe knows the kind of each creature, bool [B]."""
        return torch.isin(who.kind, torch.tensor(self.kinds))


def splits() -> list[Split]:
    """One pair of kinds and its complement with both regressors and three seeds; every other pair once, with the shipped regressor."""
    pairs = list(combinations(range(len(KINDS)), 2))
    main = [Split(regressor, pair, seed) for seed in SEEDS for regressor in REGRESSORS for pair in (pairs[0], pairs[-1])]
    return main + [Split(REGRESSORS[0], pair, SEEDS[0]) for pair in pairs[1:-1]]


def train_split(world: Miniature, split: Split, folder: Path) -> Probe:
    """The probe of one split, resumed from, or only loaded from, `folder`; it is calibrated on tune creatures of its kinds."""
    config = replace(SHORT, seed=split.seed, probe=ProbeShape(split.regressor))  # type: ignore[arg-type]
    probe = train_probe(config, folder / split.name, world.model, world.clip, world.dino, world.judge, those(split.knows))
    context = miniature_context(config, world.model, world.clip, world.dino)
    who = first_of_kinds("tune", split.kinds, MEASURED // len(split.kinds))
    return calibrated(context, probe, creature_subjects(context, who))


def first_of_kinds(split: str, kinds: Sequence[int], each: int) -> Creatures:
    """The first `each` creatures of every kind in a split."""
    who = creatures(split_numbers(split, 40 * each))
    rows = torch.cat([(who.kind == kind).nonzero()[:each, 0] for kind in kinds])
    return who[rows]


def measure_split(split: Split, folder: Path, each: int, world: Miniature, _: Prior) -> dict:
    """The scores of test creatures of all kinds, `each` of every kind, by row: `numbers`, `seen` (whether the probe knows their kind)."""
    probe = train_split(world, split, folder)
    who = first_of_kinds("test", range(len(KINDS)), each)
    inputs = someone(world, [reference_of(who, row) for row in range(len(who))], class_nouns(who))
    found, steps = pieces(world, probe, inputs, [row for row in ROWS if row != "no_probe_30"])
    return {"numbers": who.number.tolist(), "seen": split.knows(who).tolist(), "scores": scored(world, who, found, steps)}


def measure_no_probe(each: int, world: Miniature, _: Prior) -> dict:
    """The same of the row that needs no probe, once for all splits."""
    who = first_of_kinds("test", range(len(KINDS)), each)
    inputs = someone(world, [reference_of(who, row) for row in range(len(who))], class_nouns(who))
    found, steps = pieces(world, world.probe, inputs, ["no_probe_30"])
    return {"numbers": who.number.tolist(), "scores": scored(world, who, {"no_probe_30": found["no_probe_30"]}, steps)}


def table(records: Mapping[str, dict], alone: dict, regressor: str, seen: bool, gflop: Mapping[str, float]) -> list[dict]:
    """The rows for kinds that the probes of a regressor have seen, or have not."""
    found: dict[str, dict[int, list[dict[str, float]]]] = {}

    def add(scores: Mapping[str, dict], numbers: Sequence[int], chosen: Sequence[bool]) -> None:
        for row, values in scores.items():
            for index, number in enumerate(numbers):
                if chosen[index]:
                    found.setdefault(row, {}).setdefault(number, []).append({name: table[index] for name, table in values.items()})

    for name, record in records.items():
        if name.startswith(regressor):
            chosen = [known == seen for known in record["seen"]]
            add(record["scores"], record["numbers"], chosen)
            add(alone["scores"], alone["numbers"], chosen)
    kind = "seen kinds" if seen else "unseen kinds"
    return [{"regressor": regressor, "kind": kind, **row} for row in summary(found, gflop)]
