"""Whole networks compute the same through the fast ways: eps, attention maps, gradients, and what a refinement makes of them."""

from __future__ import annotations

import copy

import pytest
import torch

from hybridbooth_core.fast_cpu import routes
from hybridbooth_core.methods.registry import run_method
from hybridbooth_core.models.adapter import AttentionTap
from hybridbooth_core.models.diffusers_adapter import DiffusersModel
from hybridbooth_core.models.memory import Effort
from hybridbooth_core.refine.refine import RefineConfig, refine


@pytest.fixture
def everything_fast(monkeypatch):
    """A function: from its call on, layers of any width and attention of any length take the fast ways; returns how many calls did."""
    taken = []

    def begin() -> list:
        monkeypatch.setattr(routes, "WIDE", 1)
        monkeypatch.setattr(routes, "MANY", 1)
        monkeypatch.setattr(routes, "onednn_is_faster", lambda: True)
        for name in ("Linear", "Convolution", "GatheredConvolution", "TiledAttention"):
            kind = getattr(routes, name)
            noting = type(name, (kind,), {"apply": classmethod(lambda cls, *args, kind=kind: (taken.append(kind), kind.apply(*args))[1])})
            monkeypatch.setattr(routes, name, noting)
        return taken

    return begin


def passed(world, words: torch.Tensor, checkpointing: bool) -> tuple[torch.Tensor, ...]:
    leaf = words.clone().requires_grad_(True)
    noisy, t = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([900, 300])
    with world.working(Effort(checkpointing, 2, 32)):
        encoded = world.encode_prompts([["a photo of", leaf], ["a photo of a", leaf]])
        tap = AttentionTap(encoded.columns)
        eps = world.predict_noise(noisy, t, encoded.context, tap)
    maps = torch.cat([layer.flatten() for layer in tap.maps])
    return eps.detach(), maps.detach(), torch.autograd.grad(eps.square().sum() + maps.square().sum(), leaf)[0]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
def test_the_denoiser_and_the_text_encoder(world, everything_fast, checkpointing):
    words = torch.randn(5, 96)
    expected = passed(world, words, False)
    taken = everything_fast()
    found = passed(world, words, checkpointing)
    assert {kind.__name__ for kind in taken} == {"Linear", "GatheredConvolution", "TiledAttention"}
    for mine, plain in zip(found, expected, strict=True):
        assert (mine - plain).norm() < 1e-4 * plain.norm()


def test_a_probe_and_its_refinement(world, subject, new_probe, everything_fast):
    config = RefineConfig(mode="residual", steps=2, batch=2, validation=2, effective_step=5e-3)
    plain = refine(world, subject.ref, subject.noun, config, new_probe(), subject.features)
    assert everything_fast() is not None
    found = refine(world, subject.ref, subject.noun, config, new_probe(), subject.features)
    assert (found.start - plain.start).norm() < 1e-5 * plain.start.norm()
    assert (found.words - plain.words).norm() < 0.02 * (plain.words - plain.start).norm()


@pytest.mark.parametrize("name", ["dreambooth", "dreambooth_lora", "custom_diffusion"])
def test_weights_that_move(world, subject, everything_fast, name):
    def losses() -> list[float]:
        return run_method(name, world, subject.ref, "cat", steps=3, rate=1e-3, batch=1, prior_weight=0.0, token="max").losses

    plain = losses()
    everything_fast()
    torch.testing.assert_close(torch.tensor(losses()), torch.tensor(plain), rtol=1e-3, atol=1e-4)


def test_a_half_precision_denoiser_takes_and_gives_float32(world, subject):
    halves = [copy.deepcopy(part).bfloat16() for part in (world.unet, world.text_encoder)]
    half = DiffusersModel("half", *halves, world.tokenizer, world.coder, world.schedule, world.picture_size)
    words, noisy, t = torch.randn(5, 96), torch.randn(1, 16, 8, 8), torch.tensor([500])
    with torch.no_grad():
        eps, whole = (m.predict_noise(noisy, t, m.encode_prompts([["a photo of", words]]).context) for m in (half, world))
    assert eps.dtype == torch.float32 and (eps - whole).norm() < 0.05 * whole.norm()
    config = RefineConfig(mode="words", steps=2, batch=2, validation=2, effective_step=0.1)
    result = refine(half, subject.ref, subject.noun, config, start=words)
    assert result.words.dtype == torch.float32 and result.moves[-1] > 1e-3
