"""Fixtures: a Stable Diffusion 1.5 of full layout and small width, small encoders, and shards prepared from the dataset's few photos."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn

from hybridbooth_core.data.cache import FeatureCache
from hybridbooth_core.data.prepare import prepare
from hybridbooth_core.data.samples import Standards
from hybridbooth_core.encoders.catalogue import CLIP_L, DINOV2_S
from hybridbooth_core.encoders.published import Encoder
from hybridbooth_core.models.adapter import COMMON_WORDS
from hybridbooth_core.training.config import Data, LogConfig, Loss, Optim, ProbeShape, TrainConfig
from hybridbooth_core.training.prompt_templates import COLOURS, NEUTRAL
from hybridbooth_core.training.sources import NOUN

FOLDER = Path(__file__).resolve().parent
PHOTOS = Path(__file__).parents[1] / "data" / "dreambooth"
SIDE = 64  # pixels of the model and of the shards
WITHOUT_MASK, WITHOUT_NOUN = (5, 11), (10, 11)
LICENSED = 8  # of the 12 images
RESAMPLER = ProbeShape("resampler", num_tokens=3, sizes={"layers": 1, "heads": 4})


class TinyReader(nn.Module):
    """Squares of 32 pixels as 1 + 4 tokens: each patch, and first their mean, by a random projection."""

    size = 32

    def __init__(self, width: int):
        super().__init__()
        self.width, self.patch = width, nn.Conv2d(3, width, 16, stride=16)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(images.movedim(-1, 1) - 0.5).flatten(2).movedim(1, 2)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)


@pytest.fixture(scope="session")
def readers() -> tuple[Encoder, Encoder]:
    """Encoders of the true names and widths."""
    torch.manual_seed(3)
    clip, dino = (TinyReader(entry.width).eval().requires_grad_(False) for entry in (CLIP_L, DINOV2_S))
    return Encoder(CLIP_L.id, clip), Encoder(DINOV2_S.id, dino)


@pytest.fixture(scope="session")
def sd15(tmp_path_factory, write_vocabulary) -> Path:
    """SD1.5's layout (four resolutions, cross-attention on three, 77 tokens, a VAE of factor 8) with 32 channels and random weights."""
    pytest.importorskip("diffusers")
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("model")
    embeddings = {word for text in (*NEUTRAL, *COLOURS, COMMON_WORDS, "on background cat toy", NOUN) for word in text.split()}
    vocabulary = write_vocabulary(folder, {letter for word in embeddings for letter in word.split("-")} | {"-"})
    torch.manual_seed(0)
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, bos_token_id=start, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=SIDE // 8, block_out_channels=(32, 32, 64, 64), layers_per_block=2, cross_attention_dim=32, attention_head_dim=8
    )
    text_encoder = CLIPTextModel(text)
    with torch.no_grad():  # as they start, words and images would hardly matter
        for part, size in ((unet, 0.05), (vae, 0.05), (text_encoder, 0.2)):
            for name, parameter in part.named_parameters():
                reads_words = "attn2.to_v" in name or "attn2.to_out" in name
                parameter.add_((1.2 if reads_words else size) * torch.randn_like(parameter))
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77),
        unet=unet,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "tiny-sd15", safe_serialization=True)
    return folder / "tiny-sd15"


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Twelve photos of four identities of three each, in turns, with discs as masks; some without mask, class noun or licence."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[:256, :256]
    lines = []
    for number in range(12):
        subject, pose = ("cat", "duck_toy")[number % 2], number // 2 % 3
        with Image.open(PHOTOS / subject / f"{pose:02d}.jpg") as photo:
            (photo.convert("RGB") if number < 6 else ImageOps.mirror(photo.convert("RGB"))).save(folder / f"{number:02d}.png")
        line = {"file_name": f"{number:02d}.png", "identity": f"{subject}{number // 6}"}
        if number not in WITHOUT_MASK:
            disc = (y - 128) ** 2 + (x - 100 - 5 * number) ** 2 < 70**2
            Image.fromarray((disc * 255).astype(np.uint8)).save(folder / f"{number:02d}.mask.png")
            line["mask"] = f"{number:02d}.mask.png"
        if number not in WITHOUT_NOUN:
            line["class"] = subject.removeprefix("duck_")
        if number < LICENSED:
            line["licence"] = "CC-BY-4.0"
        lines.append(json.dumps(line))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def shards(tmp_path_factory, photos, sd15, readers) -> SimpleNamespace:
    """Three shards of the photos: `plain`, `cached` with all features, and `latents` with these alone."""
    from hybridbooth_core.bases.autoencoder import load_autoencoder

    folder, vae = tmp_path_factory.mktemp("shards"), load_autoencoder(sd15, "cpu")
    caches = {"plain": None, "cached": FeatureCache(readers, vae, 0.3), "latents": FeatureCache(None, vae, 0.3)}
    for name, cache in caches.items():
        prepare([photos], folder / name, Standards(size=SIDE), shard_samples=5, cache=cache)
    return SimpleNamespace(**{name: folder / name for name in caches})


@pytest.fixture
def configured(sd15, shards, tmp_path) -> Callable[..., TrainConfig]:
    """A function: changes to a short training on cached features."""

    def make(**changes) -> TrainConfig:
        settings = {
            "out": tmp_path / "run",
            "model": str(sd15),
            "dino": "S",
            "steps": 20,
            "batch": 4,
            "micro_batch": 4,
            "dtype": "float32",
            "data": Data(shards=shards.cached, cached=True, interleave=2, background=0, augment=0),
            "probe": RESAMPLER,
            "loss": Loss(times=(0.6, 1)),
            "optim": Optim(lr=5e-3, warmup=1, ema=0.8),
            "log": LogConfig(log_every=10, validate_every=20, validation_samples=12, grid_every=0, save_every=20, keep=1),
        }
        return TrainConfig(**{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def small():
    """The module of a training that is small enough for tests."""
    for name in ("diffusers", "transformers"):
        pytest.importorskip(name)
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("small_training")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="session")
def whole(small, tmp_path_factory):
    """A training that nothing interrupts: its folder, and the probe that it returned."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, small.trainer_of(replace(small.CONFIG, out=folder)).run().state_dict()


@pytest.fixture
def config(small, tmp_path):
    return replace(small.CONFIG, out=tmp_path / "run")


@pytest.fixture
def ends_as(small, whole):
    """A function: a probe and its folder to whether they are those of the training that nothing interrupts, to the last bit."""

    def check(probe, folder) -> bool:
        state = probe.state_dict()
        return small.curve(folder) == small.curve(whole[0]) and all(torch.equal(state[name], value) for name, value in whole[1].items())

    return check
