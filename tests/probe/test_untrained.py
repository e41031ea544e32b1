"""Untrained probes: sizes inferred from a denoiser's tensors, and an encoder half copied from the denoiser."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.errors import UserError
from hybridbooth_core.models.ldm_layout import to_ldm_layout
from hybridbooth_core.probe.probe import Features, ProbeConfig
from hybridbooth_core.probe.regressors.promptnet import PromptNet
from hybridbooth_core.probe.untrained import new_probe, promptnet_sizes

diffusers = pytest.importorskip("diffusers")

READERS = {"clip": "c@1", "clip_width": 8, "dino": "d@1", "dino_width": 12}


def denoiser(channels=(32, 64, 128, 128), attentive=3, depth=2, width=24, latents=4):
    down = ("CrossAttnDownBlock2D",) * attentive + ("DownBlock2D",) * (len(channels) - attentive)
    up = tuple(kind.replace("Down", "Up") for kind in reversed(down))
    return diffusers.UNet2DConditionModel(
        in_channels=latents, out_channels=latents, block_out_channels=channels, layers_per_block=depth, cross_attention_dim=width,
        down_block_types=down, up_block_types=up,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"channels": 32, "multipliers": [1, 2, 4, 4], "depth": 2, "attention_levels": 3, "latent_channels": 4}),
        (
            {"channels": (32, 96), "attentive": 2, "depth": 1, "latents": 16},
            {"channels": 32, "multipliers": [1, 3], "depth": 1, "attention_levels": 2, "latent_channels": 16},
        ),
    ],
)
def test_sizes_are_inferred_from_the_tensors(config, expected):
    state = to_ldm_layout(denoiser(**config).state_dict())
    sizes = promptnet_sizes(state, heads=8)
    assert sizes == expected | {"heads": 8}
    PromptNet(num_tokens=5, width=24, **sizes).load_denoiser(state)


def test_the_whole_of_stable_diffusion_15_fits_the_default_promptnet():
    with torch.device("meta"):
        state = to_ldm_layout(diffusers.UNet2DConditionModel(cross_attention_dim=768).state_dict())
        sizes = promptnet_sizes(state, heads=8)
        default, inferred = PromptNet(5, 768).state_dict(), PromptNet(5, 768, **sizes).state_dict()
    assert {k: v.shape for k, v in default.items()} == {k: v.shape for k, v in inferred.items()}
    half = {k: v for k, v in inferred.items() if k.split(".")[0] in ("time_embed", "input_blocks", "middle_block")}
    assert len(half) > 290 and all(state[k].shape == v.shape for k, v in half.items())


def test_the_encoder_half_is_the_denoisers_and_the_rest_is_seeded():
    state = to_ldm_layout(denoiser().state_dict())
    config = ProbeConfig(width=24, sizes=promptnet_sizes(state, 8), **READERS)
    before = torch.get_rng_state()
    one, same, other = (new_probe(config, state, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    taken = 0
    for name, tensor in one.regressor.state_dict().items():
        assert torch.equal(tensor, same.regressor.state_dict()[name])
        if name.split(".")[0] in ("time_embed", "input_blocks", "middle_block"):
            assert torch.equal(tensor, state[name])
            taken += 1
    assert taken > 100
    assert not torch.equal(one.regressor.head.queries, other.regressor.head.queries)


def test_an_untrained_probe_predicts_and_refines_the_denoisers_attentions():
    state = to_ldm_layout(denoiser().state_dict())
    probe = new_probe(ProbeConfig(width=24, sizes=promptnet_sizes(state, 8), **READERS), state)
    embeddings = probe(Features(torch.randn(1, 257, 8), torch.randn(1, 257, 12), torch.randn(1, 4, 64, 64)), torch.ones(24))
    assert embeddings.shape == (1, 5, 24) and bool(torch.isfinite(embeddings).all())
    assert len(probe.regressor.refined_layers()) == 3 * 7


def test_a_resampler_needs_no_denoiser():
    config = ProbeConfig(width=24, regressor="resampler", sizes={"layers": 1, "heads": 2}, **READERS)
    assert torch.equal(new_probe(config, seed=3).regressor.queries, new_probe(config, seed=3).regressor.queries)


def test_another_architecture_is_refused():
    with pytest.raises(UserError, match=r"use a Stable Diffusion 1\.5 checkpoint"):
        promptnet_sizes({"double_blocks.0.weight": torch.zeros(1)}, 8)
    uneven = to_ldm_layout(denoiser().state_dict())
    uneven = {k: v for k, v in uneven.items() if not k.startswith("input_blocks.11.")}
    with pytest.raises(UserError, match=r"levels of equal depth.*depths \[2, 2, 2, 1\]"):
        promptnet_sizes(uneven, 8)
