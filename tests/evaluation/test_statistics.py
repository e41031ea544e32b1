"""Intervals over identities, paired and not."""

import pytest
import torch

from hybridbooth_core.evaluation.statistics import interval, mean_of, paired


def test_the_interval_is_about_two_standard_errors_around_the_mean():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)) + 3
    low, high = interval(values)
    error = values.std().item() / 20
    assert low == pytest.approx(values.mean().item() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean().item() + 1.96 * error, abs=0.3 * error)


def test_what_both_share_does_not_widen_a_paired_interval():
    shared = 10 * torch.randn(50, generator=torch.Generator().manual_seed(0))
    gain = 0.1 + 0.01 * torch.randn(50, generator=torch.Generator().manual_seed(1))
    difference = paired(shared + gain, shared)
    assert difference["mean"] == mean_of(shared + gain - shared) == pytest.approx(0.1, abs=0.005)
    low, high = difference["ci95"]
    assert 0.09 < low < high < 0.11
    assert interval(shared)[1] - interval(shared)[0] > 1


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="one identity"):
        interval(torch.zeros(0))
    with pytest.raises(ValueError, match="same identities"):
        paired(torch.zeros(3), torch.zeros(4))
