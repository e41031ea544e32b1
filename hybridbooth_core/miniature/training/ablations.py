"""Probes with one part of the method left out or changed, all trained for the same short schedule: what the ablation bench compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...features import FeatureEncoder
from ...probe import Probe
from ..bundle import Miniature
from ..nets import BlankEncoder
from .loop import Schedule
from .probe import Variant, train_probe

SCHEDULE = Schedule(600, 16, ema=0.98)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Ablation:
    """One row of the table: how the probe is built and trained, and which encoders it sees."""

    variant: Variant = field(default_factory=Variant)
    clip: bool = True
    dino: bool = True


ABLATIONS: dict[str, Ablation] = {
    "full": Ablation(),
    "no_dino": Ablation(dino=False),
    "no_clip": Ablation(clip=False),
    "no_mask": Ablation(Variant(mask_weight=0.0)),
    "resampler": Ablation(Variant(regressor="resampler")),
    "words_1": Ablation(Variant(words=1)),
    "words_3": Ablation(Variant(words=3)),
    "words_8": Ablation(Variant(words=8)),
}


def encoders(world: Miniature, ablation: Ablation) -> tuple[FeatureEncoder, FeatureEncoder]:
    """The CLIP-like and the DINO-like encoder as the ablated probe sees them."""
    return world.clip if ablation.clip else BlankEncoder(world.clip), world.dino if ablation.dino else BlankEncoder(world.dino)


def train_ablation(world: Miniature, name: str, seed: int, folder: Path, schedule: Schedule = SCHEDULE) -> Probe:
    """The probe of one row and seed; resumed from, or only loaded from, `folder/<name>-<seed>`."""
    ablation = ABLATIONS[name]
    clip, dino = encoders(world, ablation)
    coder = world.model.coder
    return train_probe(schedule, folder / f"{name}-{seed}", world.model, coder, clip, dino, world.judge, seed, ablation.variant)
