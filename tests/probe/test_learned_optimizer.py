"""The learned optimizer: the network, its part of a probe's file, and the refinement mode that uses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hybridbooth_core.encoders.features import Reference
from hybridbooth_core.probe.learned_optimizer import LENGTH, LearnedOptimizer
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.refine.refine import RefineConfig, refine
from hybridbooth_core.refine.task import Task

LEARNED = RefineConfig(mode="learned", steps=3, batch=4, validation=4, step_size=1.0, seed=1)


def with_random_optimizer(probe: Probe) -> Probe:
    """The probe with random weights in its learned optimizer, whose untrained update is zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in (probe.learned_optimizer.out.weight, probe.learned_optimizer.out.bias, probe.learned_optimizer.direct.weight):
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return probe


@pytest.fixture
def probe(new_probe) -> Probe:
    return with_random_optimizer(new_probe(learned_optimizer=16))


def run(world, subject, probe, config=LEARNED, **changes):
    arguments = {"ref": subject.ref, "noun": subject.noun, "probe": probe, "features": subject.features} | changes
    return refine(world, config=config, **arguments)


def test_an_untrained_optimizer_gives_a_zero_update():
    assert torch.equal(LearnedOptimizer(5, 8, 4)(torch.randn(2, 5, 8), torch.randn(2, 5, 8)), torch.zeros(2, 5, 8))


def test_a_step_written_out_in_float64():
    """LENGTH x (an MLP of embeddings and gradient direction + a linear map of the direction), with the direction of unit RMS."""
    learned_optimizer = LearnedOptimizer(2, 3, 4)
    for weight in learned_optimizer.parameters():
        torch.nn.init.normal_(weight)
    embeddings, gradient = torch.randn(1, 2, 3), 1e-3 * torch.randn(1, 2, 3)
    w = {name: value.detach().double().numpy() for name, value in learned_optimizer.state_dict().items()}

    def silu(x):
        return x / (1 + np.exp(-x))

    g = gradient.double().numpy().reshape(6)
    g = g / np.sqrt((g**2).mean())
    x = np.concatenate([embeddings.double().numpy().reshape(6), g])
    hidden = silu(w["read.2.weight"] @ silu(w["read.0.weight"] @ x + w["read.0.bias"]) + w["read.2.bias"])
    expected = 0.1 * (w["out.weight"] @ hidden + w["out.bias"] + w["direct.weight"] @ g)
    assert LENGTH == 0.1
    np.testing.assert_allclose(learned_optimizer(embeddings, gradient).detach().numpy().reshape(6), expected, rtol=1e-4, atol=1e-5)


def test_only_the_direction_of_the_gradient_counts(probe):
    embeddings, gradient = torch.randn(1, 5, 96), torch.randn(1, 5, 96)
    torch.testing.assert_close(probe.step(embeddings, gradient), probe.step(embeddings, 1e-6 * gradient), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(probe.step(embeddings, gradient), probe.step(embeddings, -gradient), rtol=1e-2)


def test_a_step_scales_with_the_vocabulary(new_probe):
    small, large = (with_random_optimizer(new_probe(learned_optimizer=16, embedding_norm=norm)) for norm in (1.0, 3.0))
    embeddings, gradient = torch.randn(1, 5, 96), torch.randn(1, 5, 96)
    torch.testing.assert_close(large.step(3 * embeddings, gradient), 3 * small.step(embeddings, gradient), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 96), (1, 4, 96), (2, 5, 96)])
def test_shapes_that_do_not_fit_are_refused(probe, shape):
    with pytest.raises(ValueError, match="one shape"):
        probe.step(torch.randn(1, 5, 96), torch.randn(shape))


def test_a_zero_gradient_gives_a_finite_step(probe):
    assert bool(torch.isfinite(probe.step(torch.randn(1, 5, 96), torch.zeros(1, 5, 96))).all())


def test_the_file_stores_the_learned_optimizer(probe, tmp_path):
    probe.save(tmp_path / "probe.safetensors", half=False)
    loaded = Probe.load(tmp_path / "probe.safetensors")
    stored = loaded.learned_optimizer.state_dict()
    assert loaded.config.learned_optimizer == 16 and len(stored) == 7
    assert all(torch.equal(stored[name], tensor) for name, tensor in probe.learned_optimizer.state_dict().items())
    embeddings, gradient = torch.randn(1, 5, 96), torch.randn(1, 5, 96)
    # not bit-equal: the kernels round by the tensors' alignment in memory
    torch.testing.assert_close(loaded.step(embeddings, gradient), probe.step(embeddings, gradient), rtol=1e-5, atol=1e-6)


def test_learned_steps_follow_the_gradient_of_the_photos_loss(world, subject, probe):
    """The first step written out, from the gradient of the task's loss."""
    config = replace(LEARNED, steps=1)
    found = run(world, subject, probe, config)
    embeddings = found.start.clone().requires_grad_(True)
    task = Task(world, subject.ref, config)
    task.loss(embeddings, *task.sample(4, torch.Generator().manual_seed(1009)), with_masks=True).backward()
    expected = found.start + probe.step(found.start[None], embeddings.grad[None])[0].detach()
    assert found.relative_changes[0] > 1e-3 and found.mode == "learned"
    assert found.relative_changes[0] == pytest.approx(((expected - found.start).norm() / found.start.norm()).item(), rel=1e-4)
    torch.testing.assert_close(found.embeddings, expected, rtol=1e-4, atol=1e-5)


def test_the_step_size_scales_the_learned_update(world, subject, probe):
    whole, half = (run(world, subject, probe, replace(LEARNED, steps=1, step_size=size)) for size in (1.0, 0.5))
    assert run(world, subject, probe, replace(LEARNED, step_size=None)).step_size == probe.config.learned_step == 0.5
    assert whole.step_size == 1.0 and half.relative_changes[0] == pytest.approx(whole.relative_changes[0] / 2, rel=1e-4)


def test_another_photo_gives_other_updates(world, subject, probe):
    other = Reference(subject.ref.images.flip(1), None if subject.ref.masks is None else subject.ref.masks.flip(1))
    assert run(world, subject, probe).relative_changes != run(world, subject, probe, ref=other).relative_changes


def test_a_probe_without_optimizer_is_refused(world, subject, new_probe, refuses):
    assert "residual" in refuses(run, world, subject, new_probe())


def test_probe_and_model_are_untouched(world, subject, probe, state_of):
    probe.requires_grad_(True)
    parts = (probe, world.unet, world.text_encoder, world.coder)
    before = state_of(*parts)
    run(world, subject, probe)
    after = state_of(*parts)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(p.grad is not None for part in parts for p in part.parameters())
