"""Training of the learned optimizer: its gradient, and that nothing else changes."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from hybridbooth_core.miniature.nets import Judge
from hybridbooth_core.miniature.training.learned_optimizer import photo_gradient, train_learned_optimizer, with_learned_optimizer
from hybridbooth_core.miniature.training.loop import Schedule
from hybridbooth_core.refine.losses import subject_weight
from hybridbooth_core.refine.refine import RefineConfig
from hybridbooth_core.refine.timesteps import antithetic_noise, stratified_timesteps

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon needs torch 2.9 or newer (extra: train)")
SHORT = Schedule(2, 2, warmup=1)


def test_adding_an_optimizer_keeps_the_predictions(new_probe, subject):
    probe = new_probe()
    grown = with_learned_optimizer(probe, 8)
    assert grown.config.learned_optimizer == 8 and grown.learned_optimizer is not None
    assert torch.equal(grown(subject.features, subject.noun), probe(subject.features, subject.noun))


def test_the_photo_gradient_is_per_creature(world):
    """Against autograd on the weighted v-prediction loss, creature by creature and sample by sample."""
    embeddings, latents, masks = torch.randn(2, 5, 96), torch.randn(2, 16, 8, 8), (torch.rand(2, 64, 64) > 0.5).float()
    weight = subject_weight(masks, latents, 0.2)
    found = photo_gradient(world, embeddings, latents, weight, torch.Generator().manual_seed(4))

    generator, config = torch.Generator().manual_seed(4), RefineConfig()
    t = torch.cat([stratified_timesteps(config.batch, *config.times, 1000, generator) for _ in range(2)]).view(2, -1)
    noise = torch.stack([antithetic_noise(config.batch, (16, 8, 8), generator) for _ in range(2)])
    for creature in range(2):
        leaf, total = embeddings[creature].clone().requires_grad_(True), torch.zeros(())
        for row in range(config.batch):
            context = world.encode_prompts([[("a photo of", "a photo of a")[row % 2], leaf]]).context
            x, eps, time = latents[creature : creature + 1], noise[creature, row : row + 1], t[creature, row : row + 1]
            output = world.network_output(world.schedule.add_noise(x, eps, time), time, context)
            error = (output - world.schedule.velocity(x, eps, time)) ** 2 * weight[creature]
            total = total + error.mean() / config.batch
        total.backward()
        torch.testing.assert_close(found[creature], leaf.grad, rtol=1e-3, atol=1e-3 * float(leaf.grad.abs().max()))


@pytest.mark.slow
@needs_muon
def test_a_few_steps_train_the_optimizer_alone(world, encoders, new_probe, tmp_path):
    before = new_probe()
    probe = train_learned_optimizer(SHORT, tmp_path, world, world.coder, before, encoders.clip, encoders.dino, Judge().eval())
    row = json.loads((tmp_path / "stepper.jsonl").read_text().splitlines()[-1])
    assert {"loss", "identity", "prompt", "gain"} <= set(row)
    own, old = probe.state_dict(), before.state_dict()
    assert all(torch.equal(own[name], old[name]) for name in old) and set(own) - set(old)
    assert float(probe.learned_optimizer.out.weight.abs().max()) > 0 and not probe.training
    assert not any(p.requires_grad for p in probe.parameters())
