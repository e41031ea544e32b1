"""The networks of HyperDreamBooth and InstantBooth at Stable Diffusion 1.5's true layout: counts and presets, without weights."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from hybridbooth_core.training.presets import SD15_PRESETS
from hybridbooth_core.training.setup import untrained_learner

READERS = [("openai/clip-vit-large-patch14", 1024), ("timm/vit_large_patch14_dinov2.lvd142m", 1024)]


@pytest.fixture(scope="module")
def model():
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(cross_attention_dim=768)
        config = transformers.CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        text = transformers.CLIPTextModel(config)
    vocabulary = {"sks</w>": 48136, "qk</w>": 49000}
    return SimpleNamespace(
        denoiser=unet, text_encoder=text, embedding_width=768, family="stable-diffusion-v1", name="SD15", fingerprint="0" * 16,
        vocabulary=vocabulary,
    )  # fmt: skip


def made(preset: str, model):
    config = SD15_PRESETS[preset][1]()
    with torch.device("meta"):
        return untrained_learner(config, model, READERS, {"trained_on": "nothing", "licence": ""})


def test_the_hypernetwork_predicts_thirty_thousand_numbers(model):
    learner = made("sd15-hypernetwork", model)
    c = learner.config
    assert (c.matrices, sum(c.subspace), c.matrices * sum(c.subspace), c.token) == (200, 150, 30_000, "qk")
    assert 28e6 < sum(p.numel() for p in learner.parameters()) < 36e6


def test_the_adapter_has_a_layer_in_every_transformer_block(model):
    learner = made("sd15-adapter", model)
    assert len(learner.config.blocks) == 16 and sorted(set(learner.config.blocks.values())) == [320, 640, 1280]
    assert learner.config.blocks["mid_block.attentions.0.transformer_blocks.0"] == 1280
    layers = sum(p.numel() for p in learner.adapters.parameters())
    assert 55e6 < layers < 70e6
    assert (learner.config.alpha, learner.config.beta) == (0.4, 0.3), "the paper's"
