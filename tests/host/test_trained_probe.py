"""A probe that came out of a training, in the running host."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hybridbooth_core.bases.autoencoder import load_autoencoder
from hybridbooth_core.bases.training import training_bases
from hybridbooth_core.data.cache import FeatureCache
from hybridbooth_core.data.prepare import prepare
from hybridbooth_core.data.samples import Standards
from hybridbooth_core.encoders.catalogue import CLIP_L, DINOV2_S, EncoderFile
from hybridbooth_core.encoders.published import Encoder
from hybridbooth_core.training.config import Data, LogConfig, ProbeShape, TrainConfig
from hybridbooth_core.training.trainer import Trainer

from .comfy import Host
from .graphs import node
from .sd15_files import PHOTOS


class Pixels:
    """An encoder of a true one's name and width: five tokens of an image's own numbers."""

    size = 32

    def __init__(self, entry: EncoderFile):
        self.width = entry.width

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, : 5 * 256].unflatten(1, (5, 256)).repeat(1, 1, 4)[..., : self.width]


@pytest.fixture
def trained(new_pipeline, tmp_path) -> Path:
    """The file of a probe after two steps at Stable Diffusion 1.5's width of words, on the photos that are at hand."""
    pipeline = new_pipeline(width=768, length=77, intermediate_size=64, num_hidden_layers=1, num_attention_heads=12)
    pipeline.unet.register_to_config(sample_size=32)  # 64 pixels, the smallest that are prepared
    pipeline.save_pretrained(tmp_path / "small-sd15")
    encoders = Encoder(CLIP_L.id, Pixels(CLIP_L)), Encoder(DINOV2_S.id, Pixels(DINOV2_S))
    cache = FeatureCache(encoders, load_autoencoder(tmp_path / "small-sd15", "cpu"), 0)
    prepare([PHOTOS], tmp_path / "shards", Standards(size=64, licence="CC-BY-4.0"), cache=cache)
    config = TrainConfig(
        out=tmp_path / "run", model=str(tmp_path / "small-sd15"), dino="S", steps=2, batch=2, micro_batch=2, dtype="float32",
        data=Data(shards=tmp_path / "shards", cached=True, interleave=2, background=0, augment=0),
        probe=ProbeShape("resampler", sizes={"layers": 1, "inner": 48}),
        log=LogConfig(validation_samples=2, grid_every=0),
    )  # fmt: skip
    probe = Trainer(config, *training_bases().prepare(config, torch.device("cpu"))).run()
    probe.save(tmp_path / "probe.safetensors")
    return tmp_path / "probe.safetensors"


def test_a_trained_probe_is_loaded_and_says_where_it_comes_from(host: Host, trained: Path):
    (host.more_probes / "trained.safetensors").write_bytes(trained.read_bytes())
    graph = {"probe": node("HybridBooth_LoadProbe", probe="trained.safetensors"), "show": node("PreviewAny", source=["probe", 1])}
    about = host.run(graph)["show"]["text"][0]
    assert about.startswith("5 token embeddings of width 768 for small-sd15")
    assert "trained on: 6 images (shards " in about and "licence: CC-BY-4.0 (6)" in about
    assert f"image encoders: {CLIP_L.id} and {DINOV2_S.id}" in about
