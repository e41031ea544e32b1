"""LoRA on layers: the text encoder's names, exact sums, and that closing leaves nothing behind."""

from __future__ import annotations

import torch
from torch import nn

from hybridbooth_core.models.low_rank import LowRank, attention_layers, concatenated, low_rank_on, text_layers


def test_text_layers_have_kohyas_names_whatever_wraps_the_transformer(world):
    inner = getattr(world.text_encoder, "text_model", world.text_encoder)
    wrapped = nn.Module()
    wrapped.add_module("text_model", inner)
    assert list(text_layers(inner)) == list(text_layers(wrapped)) == list(text_layers(world.text_encoder))
    assert len(text_layers(inner)) == 12 and len(text_layers(inner, mlp=False)) == 8
    assert text_layers(inner)["lora_te_text_model_encoder_layers_1_self_attn_out_proj"] is inner.encoder.layers[1].self_attn.out_proj
    assert text_layers(inner)["lora_te_text_model_encoder_layers_0_mlp_fc2"] is inner.encoder.layers[0].mlp.fc2


def test_a_concatenation_is_the_exact_sum():
    layers = {"lora_unet_a": nn.Linear(6, 4, bias=False), "lora_unet_b": nn.Linear(6, 4, bias=False)}
    one = {"lora_unet_a": LowRank(torch.randn(1, 6), torch.randn(4, 1), 1.0)}
    two = {name: LowRank(torch.randn(3, 6), torch.randn(4, 3), 1.5) for name in layers}
    both, x = concatenated(one, two), torch.randn(2, 6)
    assert both["lora_unet_a"].down.shape == (4, 6) and both["lora_unet_b"].up.shape == (4, 3)
    for strength in (1.0, 0.3):
        with low_rank_on(layers, one, strength), low_rank_on(layers, two, strength):
            expected = {name: layer(x) for name, layer in layers.items()}
        with low_rank_on(layers, both, strength):
            for name, layer in layers.items():
                torch.testing.assert_close(layer(x), expected[name], atol=1e-6, rtol=1e-5)


def test_nothing_is_left_behind_when_something_fails(world):
    layers = attention_layers(world.unet)
    name, other = list(layers)[:2]
    residual = LowRank(torch.randn(1, layers[name].in_features), torch.randn(layers[name].out_features, 1), 1.0)
    try:
        with low_rank_on(layers, {name: residual, "no layer": residual}):
            raise AssertionError("a residual without a layer was taken")
    except KeyError:
        pass
    assert not layers[name]._forward_hooks and not layers[other]._forward_hooks
