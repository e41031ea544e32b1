"""The small regressor: it reads features only, keeps images apart, and all its parameters get gradients."""

from __future__ import annotations

import torch

from hybridbooth_core.probe.regressors import build_regressor
from hybridbooth_core.probe.regressors.resampler import Resampler


def resampler() -> Resampler:
    return Resampler(num_tokens=5, width=24, layers=2, heads=4)


def test_latents_are_ignored():
    net, features = resampler(), torch.randn(2, 9, 24)
    embeddings = net(features, torch.zeros(2, 16, 8, 8))
    assert embeddings.shape == (2, 5, 24)
    assert torch.equal(embeddings, net(features, torch.randn(2, 4, 64, 64)))
    assert not torch.allclose(embeddings, net(features + 0.5, torch.zeros(1)), atol=1e-4)


def test_the_order_of_the_tokens_does_not_matter_but_images_do_not_mix():
    net, features = resampler(), torch.randn(2, 9, 24)
    embeddings = net(features, torch.zeros(1))
    torch.testing.assert_close(embeddings, net(features[:, torch.randperm(9)], torch.zeros(1)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(embeddings[:1], net(features[:1], torch.zeros(1)), atol=1e-5, rtol=1e-4)


def test_every_parameter_gets_a_gradient():
    net = resampler()
    net(torch.randn(2, 9, 24), torch.zeros(1)).square().sum().backward()
    assert not [name for name, p in net.named_parameters() if not bool((p.grad != 0).any())]


def test_refined_layers_are_q_k_v_of_the_cross_attentions():
    net = resampler()
    expected = {f"layers.{i}.read.{p}" for i in range(2) for p in ("to_q", "to_k", "to_v")}
    names = {id(module): name for name, module in net.named_modules()}
    assert {names[id(layer)] for layer in net.refined_layers()} == expected


def test_the_inner_width_can_differ():
    net = build_regressor("resampler", 3, 24, {"layers": 1, "heads": 2, "inner": 16})
    assert net(torch.randn(1, 4, 24), torch.zeros(1)).shape == (1, 3, 24) and net.queries.shape == (3, 16)


def test_outputs_start_small_and_sd15s_size_is_20_to_40_million():
    embeddings = Resampler(5, 96, layers=2)(torch.randn(8, 65, 96), torch.zeros(1))
    assert 0.1 < embeddings.std() < 1.0
    with torch.device("meta"):
        count = sum(p.numel() for p in Resampler(5, 768).parameters())
    assert 20e6 < count < 40e6
