"""Every block against diffusers' own with the same weights, and the time embedding against its formula."""

from __future__ import annotations

import math

import pytest
import torch

from hybridbooth_core.probe.regressors.blocks import (
    CrossAttention,
    Downsample,
    FeedForward,
    ResBlock,
    SpatialTransformer,
    timestep_embedding,
)

pytest.importorskip("diffusers")

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "conv_shortcut": "skip_connection"}  # fmt: skip


def copied(block: torch.nn.Module, reference: torch.nn.Module, names: dict[str, str] | None = None) -> torch.nn.Module:
    """`block` with the weights of diffusers' `reference`, whose layers have other names; every tensor must match."""
    torch.manual_seed(3)
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.3 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.3)
    state = {}
    for key, value in reference.state_dict().items():
        layer, _, rest = key.partition(".")
        state[f"{(names or {}).get(layer, layer)}.{rest}"] = value
    block.load_state_dict(state)
    return block


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("out", [32, 64])
def test_res_block(out):
    from diffusers.models.resnet import ResnetBlock2D

    reference = ResnetBlock2D(in_channels=32, out_channels=out, temb_channels=48, eps=1e-5)
    x, embedding = torch.randn(2, 32, 8, 8), torch.randn(2, 48)
    close(copied(ResBlock(32, out, 48), reference, RESNET)(x, embedding), reference(x, embedding))


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 4])
def test_cross_attention(heads):
    from diffusers.models.attention_processor import Attention

    reference = Attention(query_dim=32, cross_attention_dim=24, heads=heads, dim_head=32 // heads)
    x, context = torch.randn(2, 16, 32), torch.randn(2, 7, 24)
    close(copied(CrossAttention(32, 24, heads), reference)(x, context), reference(x, encoder_hidden_states=context))


@torch.no_grad()
def test_attention_without_context_is_to_itself():
    attention, x = CrossAttention(32, 32, 4), torch.randn(2, 16, 32)
    assert torch.equal(attention(x), attention(x, x))


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="3 heads"):
        CrossAttention(32, 24, 3)


@torch.no_grad()
def test_feed_forward():
    from diffusers.models.attention import FeedForward as Reference

    reference, x = Reference(32, activation_fn="geglu"), torch.randn(2, 5, 32)
    close(copied(FeedForward(32), reference)(x), reference(x))


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (4, 6)], ids=str)
def test_spatial_transformer(size):
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    reference = Transformer2DModel(num_attention_heads=4, attention_head_dim=8, in_channels=32, num_layers=1, cross_attention_dim=24)
    x, context = torch.randn(2, 32, *size), torch.randn(2, 7, 24)
    found = copied(SpatialTransformer(32, 24, 4), reference)(x, context)
    close(found, reference(x, encoder_hidden_states=context).sample)


@torch.no_grad()
def test_downsample():
    from diffusers.models.resnet import Downsample2D

    reference, x = Downsample2D(32, use_conv=True, padding=1, name="op"), torch.randn(2, 32, 8, 8)
    close(copied(Downsample(32), reference, {"conv": "op"})(x), reference(x))


def test_timestep_embedding_is_cosines_then_sines():
    from diffusers.models.embeddings import get_timestep_embedding

    t = torch.tensor([0, 1, 37, 999])
    found = timestep_embedding(t, 64)
    torch.testing.assert_close(found, get_timestep_embedding(t, 64, flip_sin_to_cos=True, downscale_freq_shift=0), atol=1e-4, rtol=1e-4)
    for row, time in enumerate(t.tolist()):
        for k in range(32):
            angle = time * 10000 ** (-k / 32)
            assert found[row, k].item() == pytest.approx(math.cos(angle), abs=1e-3)
            assert found[row, 32 + k].item() == pytest.approx(math.sin(angle), abs=1e-3)
