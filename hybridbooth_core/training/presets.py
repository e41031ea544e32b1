"""Training presets for models with the layout of Stable Diffusion 1.5."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import UserError
from .config import AdapterShape, Data, LogConfig, Loss, Optim, ProbeShape, TrainConfig

SD15 = "stable-diffusion-v1-5"  # the folder of the model if --model does not name another

Presets = Mapping[str, tuple[str, Callable[[], TrainConfig]]]


def _sd15() -> TrainConfig:
    """Samples (640 000) and optimizer as in the paper, which does not give warm-up, moving average and augmentation."""
    return TrainConfig(
        out=Path("probe_sd15"),
        model=SD15,
        steps=80_000,
        batch=8,
        micro_batch=8,
        dtype="bfloat16",
        data=Data(neutral=0.5, condition_drop=0.1, background=0.5, augment=0.5),
        probe=ProbeShape("promptnet"),
        optim=Optim(kind="adamw", lr=2e-5, weight_decay=1e-2, warmup=500, decay=0.0, clip=1.0, ema=0.9999),
    )


def _sd15_consumer() -> TrainConfig:
    """As many samples for the small regressor. The learning rate is a guess, not measured at this size."""
    return TrainConfig(
        out=Path("probe_sd15_consumer"),
        model=SD15,
        steps=40_000,
        batch=16,
        micro_batch=2,
        dtype="bfloat16",
        checkpointing=True,
        data=Data(cached=True, neutral=1.0, condition_drop=0.1, background=0.0, augment=0.0),
        probe=ProbeShape("resampler"),
        optim=Optim(kind="adamw", lr=1e-4, weight_decay=1e-2, warmup=500, decay=0.0, clip=1.0, ema=0.9999),
        log=LogConfig(save_every=500),
    )


def _sd15_hypernetwork() -> TrainConfig:
    """The denoising loss with an output penalty, cross pairs and scenes in the prompts; the optimizer is a guess, not measured here."""
    return TrainConfig(
        out=Path("hypernetwork_sd15"),
        model=SD15,
        learner="hypernetwork",
        steps=80_000,
        batch=8,
        micro_batch=8,
        dtype="bfloat16",
        data=Data(neutral=0.5, condition_drop=0.0, background=0.5, augment=0.5),
        loss=Loss(times=(0.35, 1.0), mask_weight=0.0, norm_weight=1e-3),
        optim=Optim(kind="adamw", lr=1e-4, weight_decay=1e-2, warmup=500, decay=0.0, clip=1.0, ema=0.9999),
    )


def _sd15_adapter() -> TrainConfig:
    """InstantBooth's 320,000 steps of 16; one learning rate where the paper has 1e-6 for the adapter layers and 1e-4 for the others."""
    return TrainConfig(
        out=Path("adapter_sd15"),
        model=SD15,
        learner="instantbooth",
        steps=320_000,
        batch=16,
        micro_batch=4,
        dtype="bfloat16",
        checkpointing=True,
        data=Data(neutral=0.5, condition_drop=0.1, background=0.5, augment=0.5),
        adapter=AdapterShape(heads=8),
        loss=Loss(mask_weight=0.0, norm_weight=1e-3),
        optim=Optim(kind="adamw", lr=1e-5, weight_decay=1e-2, warmup=500, decay=0.0, clip=1.0, ema=0.9999),
    )


SD15_PRESETS: Presets = {
    "sd15": ("Stable Diffusion 1.5 as in the paper: promptnet, 640 000 samples, augmentation", _sd15),
    "sd15-consumer": ("Stable Diffusion 1.5 on a GPU with 8 GB: resampler, cached features (untested learning rate)", _sd15_consumer),
    "sd15-hypernetwork": ("HyperDreamBooth's hypernetwork for Stable Diffusion 1.5 (untested learning rate)", _sd15_hypernetwork),
    "sd15-adapter": ("InstantBooth's adapter for Stable Diffusion 1.5 (untested learning rate)", _sd15_adapter),
}


def preset(name: str, presets: Presets = SD15_PRESETS) -> TrainConfig:
    """The preset with this name; UserError if there is none."""
    if name not in presets:
        raise UserError(f"expected one of the presets {', '.join(presets)}, or a .json file, found {name[:80]!r}")
    return presets[name][1]()
