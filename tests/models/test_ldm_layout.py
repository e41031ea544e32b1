"""The conversion inverts diffusers' own, for Stable Diffusion 1.5's blocks and the miniature's."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.models.ldm_layout import to_ldm_layout, transformers_of

diffusers = pytest.importorskip("diffusers")

SD15 = {
    "sample_size": 8,
    "block_out_channels": (32, 64, 64, 64),
    "layers_per_block": 2,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
TWO_LEVELS = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
}


@pytest.mark.parametrize("config", [SD15, TWO_LEVELS], ids=["sd15", "two_levels"])
def test_agrees_with_the_converter_of_diffusers(config):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    state = diffusers.UNet2DConditionModel(**config).state_dict()
    ldm = to_ldm_layout(state)
    assert len(ldm) == len(state)
    prefixed = {f"model.diffusion_model.{key}": tensor for key, tensor in ldm.items()}
    back = convert_ldm_unet_checkpoint(prefixed, {**config, "class_embed_type": None, "addition_embed_type": None})
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_an_unknown_key_is_named_in_the_error():
    state = diffusers.UNet2DConditionModel(**TWO_LEVELS).state_dict() | {"add_embedding.linear_1.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match="add_embedding"):
        to_ldm_layout(state)


@pytest.mark.parametrize("config", [SD15, TWO_LEVELS], ids=["sd15", "two_levels"])
def test_the_transformers_of_the_ldm_layout_are_found_in_diffusers_order(config):
    unet = diffusers.UNet2DConditionModel(**config)
    state = unet.state_dict()
    ldm = dict(zip(to_ldm_layout(state), state, strict=True))
    modules = {key.rsplit(".", count)[0] for key in ldm for count in range(1, key.count(".") + 1)}
    expected = [name for name, module in unet.named_modules() if type(module).__name__ == "Transformer2DModel"]
    found = transformers_of(modules)
    assert list(found.values()) == expected
    for place, name in found.items():
        assert ldm[f"{place}.transformer_blocks.0.attn2.to_k.weight"] == f"{name}.transformer_blocks.0.attn2.to_k.weight"
