"""A probe from the wired model alone: it draws its training set, then the probe is trained on it, in one queue entry."""
# pyright: reportMissingImports=false

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from torch import Tensor

from ...hybridbooth_core.bases import BASES
from ...hybridbooth_core.data.cache import Autoencoder, FeatureCache
from ...hybridbooth_core.encoders.features import FeatureEncoder
from ...hybridbooth_core.encoders.published import Encoder
from ...hybridbooth_core.files.subject import check_name
from ...hybridbooth_core.models.fingerprint import weights_fingerprint
from ...hybridbooth_core.probe.probe import Probe, ProbeConfig
from ...hybridbooth_core.probe.untrained import new_probe
from ...hybridbooth_core.report.progress_image import time_left
from ...hybridbooth_core.training.callbacks import Callbacks
from ...hybridbooth_core.training.config import TrainConfig
from ...hybridbooth_core.training.context import TrainingContext
from ...hybridbooth_core.training.own_probe import VIEWS, draw_shards, own_config, train_on_drawings
from ...hybridbooth_core.training.sample_grids import shard_content
from ...hybridbooth_core.training.setup import provenance
from ...hybridbooth_core.training.sources import ShardSource
from .folders import new_probe_path
from .model import HostModel, host_model
from .notices import show_text
from .session import progress
from .vision import host_encoders
from .weights import embedding_norm

WORK = "hybridbooth_probes"
"""A folder in ComfyUI's output folder, for drawings and checkpoints."""
TRAINED = 16
"""Bytes in memory for a parameter that is trained: itself, its gradient and two moments."""


@dataclass(frozen=True)
class Order:
    """What probe to make. `steps` 0 takes those of the family's preset; `dino` is the size of DINOv2."""

    name: str
    subjects: int
    steps: int = 0
    dino: str = "L"
    seed: int = 0


def own_probe(model: Any, clip: Any, vae: Any, clip_vision: Any, order: Order) -> tuple[Probe, str]:
    """The probe of this name, made now unless its file is there, and a sentence about it. Continues what was stopped.

    Raises:
        UserError: an input that does not fit, before any work; or what drawing and training raise.
    """
    path = new_probe_path(check_name(order.name))
    if path.exists():
        return Probe.load(path), f"{path.name} was there already and is loaded; to make a new probe, choose another name"
    work = Path(folder_paths.get_output_directory()) / WORK / path.stem
    with host_model(model, clip, vae) as host:
        base = next(kind for kind in BASES if kind.family == host.family)
        config = own_config(
            base.presets()[base.own_probe][1](), work, order.steps or None, seed=order.seed, model=host.name, dtype="float32", device=""
        )
        fields = {"width": host.embedding_width, "embedding_norm": embedding_norm(clip), **base.new_probe_fields(order.dino)}
        shape = ProbeConfig(**fields, family=host.family, base_model=host.name, base_fingerprint=host.fingerprint)
        encoders = host_encoders(shape, clip_vision)  # before the drawing, which takes hours
        cache = _cache(host, shape, encoders) if config.data.cached else None
        draw_shards(base.drawing(host, order.subjects, VIEWS, seed=order.seed), work, cache, _drawn(order.subjects * VIEWS))
        with torch.enable_grad():
            train_on_drawings(config, partial(_prepared, host, shape, encoders), path, progress())
    return Probe.load(path), f"saved as {path.parent.name}/{path.name}; {work.parent.name}/{work.name} in the output folder can be deleted"


def _cache(host: HostModel, shape: ProbeConfig, encoders: tuple[FeatureEncoder, FeatureEncoder]) -> FeatureCache:
    """Caches features by the host's networks. The fingerprint tells checkpoints apart, so that a set of another one is not continued."""
    clip, dino = (Encoder(id, network) for id, network in zip((shape.clip, shape.dino), encoders, strict=True))
    mark = weights_fingerprint(host.patcher.model.diffusion_model.out)
    return FeatureCache((clip, dino), Autoencoder(_Coder(host), mark, host.device))


@dataclass(frozen=True, eq=False)
class _Coder:
    """The host's VAE as an `ImageCoder` that only encodes."""

    host: HostModel

    def encode(self, images: Tensor) -> Tensor:
        return self.host.encode_image(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.host.decode(latents)


def _prepared(
    host: HostModel, shape: ProbeConfig, encoders: tuple[FeatureEncoder, FeatureEncoder], config: TrainConfig
) -> tuple[TrainingContext, Probe, Callbacks]:
    """The host's model and the drawings as a training, and an untrained probe."""
    clip, dino = encoders
    source = ShardSource(config.data, config.seed, config.micro_batch, (clip.size, dino.size), reads_latents=False)
    origin = provenance(source.index)
    context = TrainingContext(host, *((None, None) if config.data.cached else encoders), source, origin)
    probe = new_probe(ProbeConfig(**{**vars(shape), **origin}), seed=config.seed)
    needed = TRAINED * sum(parameter.numel() for parameter in probe.parameters())
    comfy.model_management.free_memory(needed, host.device)
    return context, probe, Callbacks(grid_content=partial(shard_content, config, context))


def _drawn(total: int) -> Callable[[Mapping[str, Any]], None]:
    """Shows how far the drawing is; raises ComfyUI's exception if the user has cancelled."""
    bar, began = comfy.utils.ProgressBar(total), time.monotonic()
    first: list[int] = []  # what was there before this run took no time

    def on_event(counts: Mapping[str, Any]) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        done = counts["read"]
        first.append(done)
        bar.update_absolute(done, total)
        left = time_left(time.monotonic() - began, done - first[0], total - first[0])
        show_text(f"drawing image {done} of {total}, {counts['kept']} kept{left}; it goes on where it is stopped")

    return on_event
