"""What benchmarks/train_probe.py measures: steps of the pack's own trainer at Stable Diffusion 1.5's true size, its data, two processes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hybridbooth_core.data.cache import Autoencoder, FeatureCache
from hybridbooth_core.data.prepare import prepare
from hybridbooth_core.data.samples import Standards
from hybridbooth_core.encoders.catalogue import CLIP_L, DINOV2_L
from hybridbooth_core.encoders.features import FeatureEncoder
from hybridbooth_core.encoders.published import Encoder
from hybridbooth_core.files.images import to_image
from hybridbooth_core.probe.probe import ProbeConfig
from hybridbooth_core.probe.untrained import new_probe
from hybridbooth_core.training.batch import DataShard
from hybridbooth_core.training.config import Data, LogConfig, ProbeShape, TrainConfig
from hybridbooth_core.training.context import TrainingContext
from hybridbooth_core.training.distributed import DistributedEnv
from hybridbooth_core.training.memory_estimate import estimate_memory
from hybridbooth_core.training.prefetcher import Prefetcher
from hybridbooth_core.training.presets import preset
from hybridbooth_core.training.sources import ShardSource
from hybridbooth_core.training.trainer import Trainer

from .measure import GIGA, free_bytes, measured, seconds_of, spread
from .rows import Setting
from .world import World, filled

Kind = Literal["promptnet", "resampler"]

SAMPLES = 640_000  # of the paper's training
IMAGES = 24
SIDE = 224  # of what CLIP and DINO read


class Tokens(nn.Module):
    """In an encoder's place where tokens are cached: their shape, and nothing in them."""

    def __init__(self, world: World):
        super().__init__()
        self.size, self.width, self._length = SIDE, world.sizes.feature_width, world.sizes.tokens

    def forward(self, images: Tensor) -> Tensor:
        return torch.randn(len(images), self._length, self.width, generator=torch.Generator().manual_seed(4))


@contextmanager
def shards(world: World, cached: bool) -> Iterator[Path]:
    """A folder of shards of made-up images with masks, at the model's size."""
    side, generator = world.sizes.pixels, torch.Generator().manual_seed(2)
    with tempfile.TemporaryDirectory() as place:
        images, out = Path(place) / "images", Path(place) / "shards"
        for number in range(IMAGES):
            (images / f"{number // 4}").mkdir(parents=True, exist_ok=True)
            rough = torch.rand(1, 3, side // 16, side // 16, generator=generator)
            smooth = nn.functional.interpolate(rough, size=(side, side), mode="bicubic").clamp(0, 1)[0].movedim(0, -1)
            mask = torch.zeros(side, side, 3)
            mask[side // 5 : 4 * side // 5, side // 4 : 3 * side // 4] = 1
            to_image(smooth).save(images / f"{number // 4}" / f"{number}.png")
            to_image(mask).convert("L").save(images / f"{number // 4}" / f"{number}.mask.png")
        encoders = (Encoder(CLIP_L.id, Tokens(world)), Encoder(DINOV2_L.id, Tokens(world))) if cached else None
        coder = Autoencoder(world.model.coder, "none") if cached else None
        cache = FeatureCache(encoders, coder, 0.2) if cached else None
        prepare([images], out, Standards(side, max_blur=1, class_word="backpack"), 8, cache=cache)
        yield out


def training(
    world: World, folder: Path, config: TrainConfig, regressor: Kind, encoders: tuple | None = None, interleave: int = 1
) -> tuple[TrainingContext, Any]:
    """The setting and the untrained probe, at the world's size."""
    sizes = world.sizes
    quick = sizes.width < 768
    shape: dict[str, Any] = {"channels": sizes.channels[0], "multipliers": [c // sizes.channels[0] for c in sizes.channels]}
    if regressor == "resampler":
        shape = {"heads": 4} if quick else {}
    made = ProbeConfig(
        width=sizes.width, clip=CLIP_L.id, clip_width=sizes.feature_width, dino=DINOV2_L.id, dino_width=sizes.feature_width,
        regressor=regressor, sizes=shape, embedding_norm=0.4,
    )  # fmt: skip
    data = replace(config.data, shards=folder, interleave=interleave)
    source = ShardSource(data, 0, config.micro_batch, (SIDE, SIDE), regressor == "promptnet")
    clip, dino = encoders or (None, None)
    return TrainingContext(world.model, clip, dino, source), new_probe(made)


def configured(setting: Setting, regressor: Kind, cached: bool, checkpointing: bool, batch: int = 1, micro: int = 1) -> TrainConfig:
    """The recipe that the pack ships for this regressor, with other batches, in the precision of the measurement."""
    base = preset("sd15-consumer" if regressor == "resampler" else "sd15")
    dtype = "float32" if setting.dtype == torch.float32 else "bfloat16"
    data = Data(cached=True, augment=0, background=0) if cached else Data()
    return replace(
        base, batch=batch, micro_batch=micro, dtype=dtype, checkpointing=checkpointing, data=data, steps=1000,
        probe=ProbeShape(regressor), log=LogConfig(grid_every=0),
    )  # fmt: skip


def step_row(regressor: Kind, cached: bool = True, checkpointing: bool = False, half: bool = False) -> Callable[[Setting], dict]:
    """One step of a single micro-batch: its time, its operations, its memory beside the estimate, and how long it waits for data.

    `half`: in bfloat16 and by the recipe's own micro-batch, whatever the device; otherwise one row.
    """

    def row(setting: Setting) -> dict:
        world = setting.world
        if half:
            setting = replace(setting, dtype=torch.bfloat16, repeats=1)
            world.model.unet.to(torch.bfloat16)
        if (short := _too_little(setting, regressor, cached)) is not None:
            return {"left_out": short}
        rows = preset("sd15-consumer").micro_batch if half else 1
        config = configured(setting, regressor, cached, checkpointing, rows, rows)
        encoders = None if cached else true_encoders(world)
        with shards(world, cached) as folder:
            inner, probe = training(world, folder, config, regressor, encoders)
            foreseen = estimate_memory(inner, probe, config).total
            with tempfile.TemporaryDirectory() as out:
                trainer = Trainer(replace(config, out=Path(out)), inner, probe)
                feed = Prefetcher(inner.source.batches(0, trainer.shard))
                try:
                    meter = setting.meter()
                    found = measured(lambda: trainer.one_step(feed), meter, setting.repeats)
                    found |= waiting(trainer, feed)
                finally:
                    feed.close()
        found["peak_memory_gb"] = found.get("peak_memory_gb", {}) | {"estimate": round(foreseen / GIGA, 2)}
        hours = SAMPLES / rows * found["seconds"]["median"] / 3600
        return found | {"rows": rows, "parameters": sum(p.numel() for p in probe.parameters()), "hours_for_640k_samples": round(hours, 1)}

    return row


def waiting(trainer: Trainer, feed: Prefetcher, steps: int = 3) -> dict:
    """The share of steps in a row that was spent waiting for data, the first one's filling of the queue included."""
    before = feed.waited
    spent = seconds_of(lambda: [trainer.one_step(feed) for _ in range(steps)], trainer.context.model.device)
    return {"waiting_for_data": round((feed.waited - before) / spent, 5)}


def true_encoders(world: World) -> tuple[FeatureEncoder, FeatureEncoder]:
    """CLIP ViT-L/14 and DINOv2 ViT-L/14 of random weights; at tiny sizes their stand-ins."""
    if world.sizes.width < 768:
        return Tokens(world), Tokens(world)
    import timm

    from hybridbooth_core.encoders.clip_vit import new_clip_vision
    from hybridbooth_core.encoders.dinov2 import Dinov2

    def dino() -> Dinov2:
        return Dinov2(timm.create_model(DINOV2_L.id.split("/")[1], pretrained=False, num_classes=0, img_size=SIDE))

    device = world.model.device
    return filled(new_clip_vision, device, torch.float32), filled(dino, device, torch.float32)


def _too_little(setting: Setting, regressor: Kind, cached: bool) -> str | None:
    """Why a row cannot be measured here, or None."""
    if setting.device.type != "cpu" or setting.world.sizes.width < 768:
        return None
    needed = {"resampler": 5e9, "promptnet": 13e9}[regressor] + (0 if cached else 3e9)  # beyond the world, which is there already
    free = free_bytes()
    return f"it needs about {needed / GIGA:.0f} GB more, and {free / GIGA:.0f} GB are free" if free < needed else None


def data_row(cached: bool) -> Callable[[Setting], dict]:
    """How fast the source alone hands out rows: what a faster device than this one would have to wait for."""

    def row(setting: Setting) -> dict:
        with shards(setting.world, cached) as folder:
            data = replace(Data(cached=True, augment=0, background=0) if cached else Data(), shards=folder, interleave=1)
            source = ShardSource(data, 0, 4, (SIDE, SIDE), reads_latents=not cached)
            batches = source.batches(0, DataShard(8, 8))
            next(batches)
            seconds = [seconds_of(lambda: next(batches), torch.device("cpu")) for _ in range(2 * setting.repeats)]
        rates = [8 / one for one in seconds]
        return {"samples_per_second": spread(rates, 2), "threads": torch.get_num_threads()}

    return row


def scaling_child(setting: Setting, steps: int) -> dict | None:
    """One of several processes that train together on a batch of 2, one thread each; the main process returns the result."""
    processes = DistributedEnv.launched("cpu")
    torch.set_num_threads(1)
    config = configured(setting, "resampler", cached=True, checkpointing=False, batch=2)
    with shards(setting.world, True) as folder, tempfile.TemporaryDirectory() as out:
        inner, probe = training(setting.world, folder, config, "resampler", interleave=2)
        trainer = Trainer(replace(config, out=Path(out)), inner, probe, processes=processes)
        feed = Prefetcher(inner.source.batches(0, trainer.shard))
        try:
            trainer.one_step(feed)
            seconds, losses = [], []
            for _ in range(steps):
                processes.wait()
                began = time.perf_counter()
                losses.append(trainer.one_step(feed)["loss"])
                seconds.append(time.perf_counter() - began)
        finally:
            feed.close()
    return {"processes": processes.world, "seconds": spread(seconds), "losses": losses} if processes.main else None


ROWS: dict[str, tuple[str, Callable[[Setting], dict]]] = {
    "consumer": ("resampler, cached features: step of 1 row", step_row("resampler")),
    "consumer_checkpointed": ("the same with checkpointing", step_row("resampler", checkpointing=True)),
    "consumer_recipe": (
        "the same with checkpointing, in bfloat16 and by 2 rows: the recipe for one GPU",
        step_row("resampler", checkpointing=True, half=True),
    ),
    "promptnet": ("promptnet, cached features: step of 1 row", step_row("promptnet")),
    "promptnet_checkpointed": ("the same with checkpointing", step_row("promptnet", checkpointing=True)),
    "images": ("promptnet, features computed in the step: step of 1 row", step_row("promptnet", cached=False)),
    "data_cached": ("data alone, cached features", data_row(True)),
    "data_images": ("data alone, images decoded, augmented and cropped", data_row(False)),
}
