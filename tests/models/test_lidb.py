"""Lightweight DreamBooth's subspace: its constants, its counts on Stable Diffusion 1.5, and that it is a rank-1 LoRA."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from torch import nn

from hybridbooth_core.models.lidb import LiDBSpace, lidb_layers, normals, outer_matrices, start_of
from hybridbooth_core.models.low_rank import attention_layers, low_rank_on, text_layers

QK = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


@pytest.fixture(scope="module")
def sd15():
    """The layers of Stable Diffusion 1.5's UNet and text encoder, by diffusers and transformers, without weights."""
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(cross_attention_dim=768)
        text = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        )
    return unet, text


def test_counts_on_stable_diffusion(sd15):
    unet, text = sd15
    assert (len(attention_layers(unet)), len(text_layers(text, mlp=False)), len(text_layers(text))) == (128, 48, 72)
    layers = dict(sorted((attention_layers(unet) | text_layers(text)).items()))
    space = LiDBSpace.of(layers)
    assert space.shape == (200, 150) and math.prod(space.shape) == 30_000
    assert "lora_te_text_model_encoder_layers_11_mlp_fc2" in layers and QK in layers
    assert layers["lora_te_text_model_encoder_layers_3_mlp_fc1"].out_features == 3072


def test_the_layers_of_a_model_are_sorted_by_name(world):
    assert list(lidb_layers(world)) == sorted(lidb_layers(world))
    assert len(lidb_layers(world, "unet")) == 56
    assert (len(lidb_layers(world, "unet+text")), len(lidb_layers(world))) == (64, 68)


def test_normal_numbers_are_those_of_the_published_generator():
    """splitmix64 in plain integers, Box and Muller in plain floats."""
    seed = int.from_bytes(hashlib.sha256(b"hybridbooth.lidb/1/a").digest()[:8], "big")

    def uniform(index: int) -> float:
        z = (seed + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return ((z ^ (z >> 31)) >> 11) / 2**53

    expected = [math.sqrt(-2 * math.log(1 - uniform(i))) * math.cos(2 * math.pi * uniform(i + 3)) for i in range(3)]
    expected += [math.sqrt(-2 * math.log(1 - uniform(i))) * math.sin(2 * math.pi * uniform(i + 3)) for i in range(3)]
    np.testing.assert_allclose(normals("a", 6), expected, rtol=1e-12)
    np.testing.assert_allclose(normals("a", 5), expected[:5], rtol=1e-12)
    many = normals("b", 200_000)
    assert abs(many.mean()) < 0.01 and abs(many.std() - 1) < 0.01


def test_the_fixed_matrices_are_constants_of_the_format():
    """A file that was written once must mean the same for ever."""
    up, down = outer_matrices(QK, 320, 768, 100, 50)
    assert up.shape == (320, 100) and down.shape == (50, 768)
    torch.testing.assert_close(up.T @ up, torch.eye(100), atol=1e-5, rtol=0)
    torch.testing.assert_close(down @ down.T, torch.eye(50), atol=1e-5, rtol=0)
    found = [up[0, 0].item(), up[319, 99].item(), down[0, 0].item(), down[49, 767].item(), float(start_of(QK, 50, 768)[0])]
    assert found == pytest.approx(GOLDEN, abs=1e-6)
    other, _ = outer_matrices("lora_unet_other", 320, 768, 100, 50)
    assert (other - up).abs().max() > 0.1, "each layer has its own"


GOLDEN = [-0.008300213, -0.048952416, 0.008341395, -0.015688408, 0.894612230]


@pytest.fixture
def layers() -> dict[str, nn.Linear]:
    torch.manual_seed(0)
    return {"lora_unet_a": nn.Linear(24, 40, bias=False), "lora_unet_b": nn.Linear(16, 24, bias=False)}


def test_it_is_its_formula(layers):
    space = LiDBSpace.of(layers, 8, 4)
    numbers, x = torch.randn(2, 12), torch.randn(3, 5, 24)
    up, down = (part.double() for part in outer_matrices("lora_unet_a", 40, 24, 8, 4))
    a, b = numbers[0, :8].double(), numbers[0, 8:].double()
    expected = x.double() @ (layers["lora_unet_a"].weight.double() + 0.5 * (up @ a[:, None]) @ (b[None] @ down)).T
    with low_rank_on(layers, space.residuals(numbers), 0.5), torch.no_grad():
        torch.testing.assert_close(layers["lora_unet_a"](x).double(), expected, atol=1e-5, rtol=1e-5)


def test_the_start_changes_nothing_and_has_entries_of_unit_spread(layers):
    space = LiDBSpace.of(layers, 8, 4)
    start, x = space.start(), torch.randn(3, 5, 24)
    before = layers["lora_unet_a"](x)
    with low_rank_on(layers, space.residuals(start)):
        assert torch.equal(layers["lora_unet_a"](x), before)
    assert torch.equal(start[:, :8], torch.zeros(2, 8))
    wide = LiDBSpace({f"lora_unet_{i}": (320, 768) for i in range(40)})
    spread = torch.stack([residual.down for residual in wide.residuals(wide.start()).values()]).std()
    assert spread.item() == pytest.approx(1, abs=0.05)


def test_subjects_in_one_batch_are_those_one_by_one(layers):
    space = LiDBSpace.of(layers, 8, 4)
    numbers, x = torch.randn(3, 2, 12), torch.randn(6, 5, 24)
    layer = layers["lora_unet_a"]
    with low_rank_on(layers, space.residuals(numbers)):
        together = layer(x)
        with pytest.raises(ValueError, match="multiple of 3 rows"):
            layer(x[:4])
    for row in range(6):
        with low_rank_on(layers, space.residuals(numbers[row % 3])):
            torch.testing.assert_close(together[row], layer(x[row : row + 1])[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight), atol=0, rtol=0)


def test_shapes_are_checked(layers):
    space = LiDBSpace.of(layers, 8, 4)
    for shape in ((2, 11), (3, 12), (12,), (1, 1, 2, 12)):
        with pytest.raises(ValueError, match="expected numbers"):
            space.residuals(torch.zeros(shape))
    with pytest.raises(ValueError, match="at most a layer's"):
        LiDBSpace.of(layers, 25, 4)
