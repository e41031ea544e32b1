"""Every formula of a seed, as files of earlier versions were made with it."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.models.sampling import initial_noise
from hybridbooth_core.models.seeds import (
    image_generator,
    method_generator,
    new_generator,
    prompt_seed,
    refine_generator,
    refine_validation_generator,
    row_generator,
    sampler_generator,
    stage_generator,
)

LARGEST = (1 << 64) - 1  # of ComfyUI


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda seed: image_generator(seed, 1), (1, 7000022, 9223372036853775806)),
        (lambda seed: sampler_generator(seed, 1), (500010, 7500031, 9223372036854275815)),
        (lambda seed: method_generator(seed, 3), (3, 7000024, 9223372036853775808)),
        (lambda seed: refine_generator(seed, 3), (3, 7066, 9223372036854774802)),
        (refine_validation_generator, (7919, 7926, 7918)),
        (new_generator, (0, 7, (1 << 63) - 1)),
    ],
)
def test_formulas_that_take_any_seed(made, expected):
    assert tuple(made(seed).initial_seed() for seed in (0, 7, LARGEST)) == expected


def test_formulas_that_mix_several_numbers():
    rows = [(0, 0, 0), (7, 3, 2), (7, -1, -2), ((1 << 32) - 1, 80_000, 1 << 20)]
    assert [row_generator(*row).initial_seed() for row in rows] == [2852096304, 1485175435, 1108559100, 127910703]
    stages = [(0, "base", 0), (7, "clip", 123), (1234, "held out", 0)]
    assert [stage_generator(*stage).initial_seed() for stage in stages] == [3390137510658048, 3045651872240556, 1314949412984626]
    assert prompt_seed(0, "cat", 3) == 3516981461


def test_a_row_of_noise_depends_on_its_number_alone():
    noise = initial_noise(3, (2, 4), 7)
    assert torch.equal(noise[1], torch.randn(2, 4, generator=image_generator(7, 1))) and torch.equal(noise[:2], initial_noise(2, (2, 4), 7))
    assert len({value.item() for value in noise.flatten()}) == 24
    assert noise[1, 0, 0].item() != initial_noise(2, (2, 4), 8)[1, 0, 0].item()
