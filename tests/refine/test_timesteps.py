"""Stratified times and antithetic noise: their variance-reducing properties, and determinism."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.refine.timesteps import antithetic_noise, stratified_timesteps


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("count", "low", "high"), [(1, 0.0, 1.0), (8, 0.0, 1.0), (8, 0.2, 1.0), (10, 0.5, 0.9), (100, 0.0, 1.0)])
def test_every_part_of_the_range_gives_one_time(count, low, high):
    for seed in range(20):
        times = stratified_timesteps(count, low, high, 1000, seeded(seed)).sort().values
        edges = 1000 * (low + (high - low) * torch.arange(count + 1, dtype=torch.float64) / count)
        assert times.dtype == torch.int64 and len(times) == count
        assert bool((times >= (edges[:-1] - 1e-3).floor()).all()) and bool((times <= edges[1:]).all())
        assert int(times[0]) >= 0 and int(times[-1]) < 1000


def test_times_are_uniform_within_a_part():
    times = torch.cat([stratified_timesteps(4, 0.0, 1.0, 1000, seeded(seed)) for seed in range(1000)]).float()
    assert abs(times.mean() - 499.5) < 3 and abs(times.std() - 288.7) < 3
    first = times[times < 250]
    assert abs(first.mean() - 124.5) < 8 and abs(first.std() - 72.2) < 6


def test_the_order_is_random_and_seeded():
    orders = [stratified_timesteps(8, 0.0, 1.0, 1000, seeded(seed)).argsort().tolist() for seed in range(10)]
    assert len({tuple(order) for order in orders}) > 5
    state = torch.get_rng_state()
    assert torch.equal(stratified_timesteps(8, 0.0, 1.0, 1000, seeded(3)), stratified_timesteps(8, 0.0, 1.0, 1000, seeded(3)))
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.9, 0.1), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_an_invalid_range_is_refused(low, high):
    with pytest.raises(ValueError, match="fractions of the schedule"):
        stratified_timesteps(8, low, high, 1000)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_noise_comes_in_pairs_that_cancel(count):
    noise = antithetic_noise(count, (4, 8, 8), seeded())
    half = (count + 1) // 2
    assert noise.shape == (count, 4, 8, 8)
    assert torch.equal(noise[half:], -noise[: count - half])
    assert len({row.sum().abs().item() for row in noise}) == half


def test_noise_is_standard_normal_and_seeded():
    noise = antithetic_noise(64, (4, 16, 16), seeded())
    assert abs(noise[:32].mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert torch.equal(noise, antithetic_noise(64, (4, 16, 16), seeded()))
    assert not torch.equal(noise, antithetic_noise(64, (4, 16, 16), seeded(1)))
