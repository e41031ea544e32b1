"""Training images: train creatures only, adjacent views of one creature, and all seeded."""

from __future__ import annotations

import torch

from hybridbooth_core.miniature.render import render
from hybridbooth_core.miniature.training.images import choose, degrade, draw_batch
from hybridbooth_core.miniature.world import SPLITS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_only_train_creatures_are_used():
    numbers = torch.cat([choose(seeded(seed), 5000)[0].number for seed in range(4)])
    assert SPLITS["train"].start <= numbers.min() and numbers.max() < SPLITS["train"].stop
    assert len(numbers.unique()) > 19_000 and numbers.max() > 0.99 * SPLITS["train"].stop


def test_views_of_one_creature_are_adjacent():
    batch = draw_batch(seeded(), 6, views=3)
    assert len(batch.images) == len(batch.masks) == 18
    numbers = batch.creatures.number.view(6, 3)
    assert bool((numbers == numbers[:, :1]).all()) and len(numbers[:, 0].unique()) == 6
    assert len(batch.scenes.jitter.unique(dim=0)) == 18


def test_images_are_the_renders_of_their_creatures_and_scenes():
    batch = draw_batch(seeded(), 4)
    images, masks = render(batch.creatures, batch.scenes)
    assert torch.equal(batch.images, images) and torch.equal(batch.masks, masks)


def test_batches_are_seeded():
    state = torch.get_rng_state()
    assert torch.equal(draw_batch(seeded(3), 4).images, draw_batch(seeded(3), 4).images)
    assert not torch.equal(draw_batch(seeded(3), 4).images, draw_batch(seeded(4), 4).images)
    assert torch.equal(torch.get_rng_state(), state)


def test_degraded_images_are_noisy_partly_blurred_and_in_range():
    images = draw_batch(seeded(), 200).images
    before = images.clone()
    bad = degrade(images, seeded(1))
    assert torch.equal(images, before) and bad.shape == images.shape and bad.min() >= 0 and bad.max() <= 1
    assert torch.equal(bad, degrade(images, seeded(1)))
    error = (bad - images).abs().mean((1, 2, 3))
    assert error.min() > 0 and error.max() < 0.12 and error.std() > 0.005
    grey = degrade(torch.full((200, 64, 64, 3), 0.5), seeded(2))
    noise = grey.std((1, 2, 3))
    assert noise.min() < 0.01 and 0.07 < noise.max() < 0.085 and (grey.mean() - 0.5).abs() < 1e-3
