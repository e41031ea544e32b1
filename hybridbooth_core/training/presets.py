"""Trainings to begin with: each is a whole configuration, of which the command line changes what it is told to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import UserError
from .config import MINIATURE, Data, LogConfig, Optim, ProbeShape, TrainConfig

SD15 = "stable-diffusion-v1-5"  # the folder that is looked for where --base says nothing else


def _miniature() -> TrainConfig:
    from ..miniature.training.probe import CONFIG

    return CONFIG


def _sd15() -> TrainConfig:
    """The paper's samples and optimiser: 640 000 of them; what it does not print (warm-up, average, augmentation) is ours."""
    return TrainConfig(
        out=Path("probe_sd15"),
        base=SD15,
        steps=80_000,
        batch=8,
        micro_batch=8,
        precision="bf16",
        data=Data(neutral=0.5, condition_drop=0.1, background=0.5, augment=0.5),
        probe=ProbeShape("promptnet"),
        optim=Optim(kind="adamw", lr=2e-5, weight_decay=1e-2, warmup=500, decay=0.0, clip=1.0, ema=0.9999),
    )


def _sd15_consumer() -> TrainConfig:
    """As many samples through the small regressor. Its rate is a guess: nobody has measured it at this size."""
    return TrainConfig(
        out=Path("probe_sd15_consumer"),
        base=SD15,
        steps=40_000,
        batch=16,
        micro_batch=2,
        precision="bf16",
        checkpointing=True,
        data=Data(cached=True, neutral=1.0, condition_drop=0.1, background=0.0, augment=0.0),
        probe=ProbeShape("resampler"),
        optim=Optim(kind="adamw", lr=1e-4, weight_decay=1e-2, warmup=500, decay=0.0, clip=1.0, ema=0.9999),
        log=LogConfig(save_every=500),
    )


PRESETS: dict[str, tuple[str, Callable[[], TrainConfig]]] = {
    MINIATURE: ("the miniature world's own probe, on a CPU, downloading nothing", _miniature),
    "sd15": ("the paper's recipe for Stable Diffusion 1.5: promptnet, 640 000 samples, images varied on the way", _sd15),
    "sd15-consumer": ("resampler on cached features, for a card of 8 GB; its learning rate is a guess", _sd15_consumer),
}


def preset(name: str) -> TrainConfig:
    """The configuration of this name; UserError where there is none."""
    if name not in PRESETS:
        raise UserError(f"expected one of the presets {', '.join(PRESETS)}, or a .json file, found {name[:80]!r}")
    return PRESETS[name][1]()
