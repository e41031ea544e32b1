"""The promptnet's encoder half against diffusers' UNet with the same weights, at the miniature's and at SD1.5's shape."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from hybridbooth_core.models.ldm_layout import to_ldm_layout
from hybridbooth_core.probe.regressors import build_regressor
from hybridbooth_core.probe.regressors.promptnet import PromptNet

diffusers = pytest.importorskip("diffusers")

SHAPES = {
    "two levels": (
        {"channels": 32, "multipliers": (1, 2), "depth": 1, "heads": 4, "attention_levels": 2, "latent_channels": 16, "pooled": 8},
        {"in_channels": 16, "out_channels": 16, "block_out_channels": (32, 64), "layers_per_block": 1,
         "down_block_types": ("CrossAttnDownBlock2D",) * 2, "up_block_types": ("CrossAttnUpBlock2D",) * 2},
    ),
    "sd15": (
        {"channels": 32, "multipliers": (1, 2, 4, 4), "heads": 8, "pooled": 8},
        {"block_out_channels": (32, 64, 128, 128), "layers_per_block": 2,
         "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
         "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3},
    ),
}  # fmt: skip


@pytest.fixture(params=SHAPES)
def pair(request):
    """A promptnet, and the denoiser whose encoder half it copies."""
    sizes, config = SHAPES[request.param]
    unet = diffusers.UNet2DConditionModel(**config, cross_attention_dim=24, attention_head_dim=sizes["heads"]).eval()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    net = PromptNet(num_tokens=5, width=24, **sizes)
    net.taken = net.load_denoiser(to_ldm_layout(unet.state_dict()))
    return net.eval(), unet


@contextmanager
def captured(modules, inputs: bool):
    """The inputs (or outputs) of modules during a run."""
    found: list[torch.Tensor] = []

    def keep(module, args, output):
        found.append(args[0] if inputs else output[0] if isinstance(output, tuple) else output)

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def test_every_pooled_stage_agrees_with_the_denoiser(pair):
    net, unet = pair
    latents, features = torch.randn(2, net.input_blocks[0][0].in_channels, 16, 16), torch.randn(2, 9, 24)
    with captured(net.pool, inputs=True) as stages:
        net(features, latents)
    levels = [(block.attentions if hasattr(block, "attentions") else block.resnets)[-1] for block in unet.down_blocks]
    with captured([unet.conv_in, *levels, unet.mid_block], inputs=False) as expected:
        unet(latents, torch.zeros(2), features)
    assert len(stages) == len(expected) == len(levels) + 2
    for stage, reference in zip(stages, expected, strict=True):
        torch.testing.assert_close(stage, reference, atol=1e-4, rtol=1e-4)


def test_the_whole_encoder_half_is_copied_from_the_denoiser(pair):
    net, unet = pair
    own = {key for key in net.state_dict() if not key.startswith(("pool.", "head."))}
    state = to_ldm_layout(unet.state_dict())
    assert net.taken == len(own) and all(torch.equal(net.state_dict()[key], state[key]) for key in own)
    assert {key for key in state if not key.startswith(("output_blocks.", "out."))} == own


def test_refined_layers_are_k_q_v_of_every_cross_attention(pair):
    net, unet = pair
    layers = net.refined_layers()
    count = sum(1 for name, _ in unet.named_modules() if name.endswith("attn2") and not name.startswith("up_blocks"))
    names = {id(module): name for name, module in net.named_modules()}
    assert len(layers) == len(set(map(id, layers))) == 3 * count
    assert all(names[id(layer)].rpartition("attn2.")[2] in ("to_q", "to_k", "to_v") for layer in layers)


def test_a_denoiser_of_other_sizes_is_refused(pair):
    net, unet = pair
    state = to_ldm_layout(unet.state_dict())
    with pytest.raises(ValueError, match="use its sizes"):
        net.load_denoiser({key: value for key, value in state.items() if "attn2.to_k" not in key})
    with pytest.raises(ValueError, match="use its sizes"):
        net.load_denoiser(state | {"input_blocks.0.0.bias": torch.zeros(7)})


def test_embeddings_depend_on_features_and_latents(pair):
    net, _ = pair
    latents, features = torch.randn(2, net.input_blocks[0][0].in_channels, 16, 16), torch.randn(2, 9, 24, requires_grad=True)
    embeddings = net(features, latents)
    assert embeddings.shape == (2, 5, 24)
    assert not torch.allclose(embeddings, net(features + 1, latents), atol=1e-4)
    assert not torch.allclose(embeddings, net(features, latents + 1), atol=1e-4)
    embeddings.square().sum().backward()
    assert features.grad.abs().max() > 0
    unused = [name for name, p in net.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert not unused


@pytest.mark.parametrize("latent_side", [8, 16, 32])
def test_other_latent_sizes_are_accepted(latent_side):
    net = build_regressor("promptnet", 5, 24, dict(SHAPES["two levels"][0]))
    assert net(torch.randn(1, 9, 24), torch.randn(1, 16, latent_side, latent_side)).shape == (1, 5, 24)


def test_the_papers_sizes_are_those_of_sd15():
    """0.35 B parameters in the encoder half, 14.79 M of them in Q, K and V of seven cross-attentions; counted on the meta device."""
    with torch.device("meta"):
        net = PromptNet(num_tokens=5, width=768)
    layers = net.refined_layers()
    assert len(layers) == 21 and sum(layer.weight.numel() for layer in layers) == 14_786_560
    encoder = sum(p.numel() for name, p in net.named_parameters() if not name.startswith(("pool.", "head.")))
    assert 0.33e9 < encoder < 0.37e9
