"""Kind transfer: probes trained on two kinds of creature, used on the other two; the base model knows all four."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.miniature.training.probe import CONFIG, train_probe
from hybridbooth_core.miniature.training.source import of_kinds
from hybridbooth_core.miniature.world import KINDS
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.training.config import ProbeShape

SHORT = replace(
    CONFIG,
    steps=600,
    batch=16,
    micro_batch=16,
    optim=replace(CONFIG.optim, ema=0.98),
    log=replace(CONFIG.log, grid_every=0, validate_every=600, validation_samples=8, keep=1),
)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Split:
    """A probe that knows two kinds: its regressor, the kinds (indices into KINDS) and the seed of its training."""

    regressor: str
    kinds: tuple[int, int]
    seed: int

    @property
    def name(self) -> str:
        return f"{self.regressor}-{'-'.join(KINDS[kind] for kind in self.kinds)}-{self.seed}"


def splits() -> list[Split]:
    """The shipped regressor on every pair of kinds, and the promptnet on one pair and its complement, three seeds each."""
    pairs = list(combinations(range(len(KINDS)), 2))
    return [Split("resampler", pair, seed) for seed in SEEDS for pair in pairs] + [
        Split("promptnet", pair, seed) for seed in SEEDS for pair in (pairs[0], pairs[-1])
    ]


def train_split(world: Miniature, split: Split, folder: Path) -> Probe:
    """The probe of one split; resumed from, or only loaded from, `folder`."""
    config = replace(SHORT, seed=split.seed, probe=ProbeShape(split.regressor))  # type: ignore[arg-type]
    return train_probe(config, folder / split.name, world.model, world.clip, world.dino, world.judge, of_kinds(*split.kinds))
