"""Probes with one part of the method left out or changed, all trained for the same short schedule: what the ablation bench compares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hybridbooth_core.encoders.features import FeatureEncoder
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.miniature.nets import BlankEncoder
from hybridbooth_core.miniature.training.probe import CONFIG, train_probe
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.training.config import ProbeShape, TrainConfig

SHORT = replace(
    CONFIG,
    steps=600,
    batch=16,
    micro_batch=16,
    probe=ProbeShape("promptnet"),
    optim=replace(CONFIG.optim, ema=0.98),
    log=replace(CONFIG.log, grid_every=0, validate_every=600, keep=1),
)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Ablation:
    """One row of the table: what differs from `SHORT`, and which encoders the probe sees."""

    probe: ProbeShape = SHORT.probe
    mask_weight: float = SHORT.loss.mask_weight
    clip: bool = True
    dino: bool = True


ABLATIONS: dict[str, Ablation] = {
    "full": Ablation(),
    "no_dino": Ablation(dino=False),
    "no_clip": Ablation(clip=False),
    "no_mask": Ablation(mask_weight=0.0),
    "resampler": Ablation(ProbeShape("resampler")),
    "words_1": Ablation(ProbeShape("promptnet", num_tokens=1)),
    "words_3": Ablation(ProbeShape("promptnet", num_tokens=3)),
    "words_8": Ablation(ProbeShape("promptnet", num_tokens=8)),
}


def encoders(world: Miniature, ablation: Ablation) -> tuple[FeatureEncoder, FeatureEncoder]:
    """The CLIP-like and the DINO-like encoder as the ablated probe sees them."""
    return world.clip if ablation.clip else BlankEncoder(world.clip), world.dino if ablation.dino else BlankEncoder(world.dino)


def train_ablation(world: Miniature, name: str, seed: int, folder: Path, config: TrainConfig = SHORT) -> Probe:
    """The probe of one row and seed; resumed from, or only loaded from, `folder/<name>-<seed>`."""
    ablation = ABLATIONS[name]
    clip, dino = encoders(world, ablation)
    config = replace(config, seed=seed, probe=ablation.probe, loss=replace(config.loss, mask_weight=ablation.mask_weight))
    return train_probe(config, folder / f"{name}-{seed}", world.model, clip, dino, world.judge)
