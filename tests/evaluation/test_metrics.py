"""The metrics against their formulas in float64 numpy, pair by pair."""

from itertools import combinations

import numpy as np
import pytest
import torch

from hybridbooth_core.evaluation.metrics import diversity, mean_cosine, mean_cosine_among, mean_matching_cosine, mean_with_interval, unit


def cosine(a, b) -> float:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return float((a * b).sum() / np.sqrt((a * a).sum()) / np.sqrt((b * b).sum()))


@pytest.fixture
def features():
    return torch.randn(7, 384) * 5, torch.randn(3, 384) + 1


def test_mean_cosine_is_the_mean_over_all_pairs(features):
    generated, real = features
    expected = np.mean([cosine(g, r) for g in generated for r in real])
    assert mean_cosine(generated, real) == pytest.approx(expected, abs=1e-12)


def test_mean_cosine_among_excludes_an_image_with_itself(features):
    real = features[1]
    assert mean_cosine_among(real) == pytest.approx(np.mean([cosine(a, b) for a, b in combinations(real, 2)]), abs=1e-12)
    assert mean_cosine_among(real[:1]) is None
    assert mean_cosine_among(real[:1].repeat(3, 1)) == pytest.approx(1, abs=1e-12)


def test_mean_matching_cosine_pairs_rows(features):
    images, prompts = torch.randn(5, 512), torch.randn(5, 512)
    assert mean_matching_cosine(images, prompts) == pytest.approx(np.mean([cosine(a, b) for a, b in zip(images, prompts, strict=True)]))
    with pytest.raises(ValueError, match="a prompt for each"):
        mean_matching_cosine(images, prompts[:1])


def test_norms_do_not_matter_and_half_precision_is_widened_first(features):
    generated, real = features
    assert mean_cosine(generated * 1e4, real * 1e-4) == pytest.approx(mean_cosine(generated, real), abs=1e-6)
    half = generated.half()
    assert mean_cosine(half, real) == pytest.approx(np.mean([cosine(g, r) for g in half for r in real]), abs=1e-12)


@pytest.mark.parametrize("bad", [torch.zeros(2, 4), torch.full((2, 4), torch.nan), torch.ones(4), torch.ones(0, 4)])
def test_zero_and_non_finite_features_are_refused(bad):
    with pytest.raises(ValueError, match="expected features"):
        unit(bad)


def test_diversity_is_the_mean_over_pairs_within_prompts():
    groups = [[torch.full((3, 2, 2), float(v)) for v in row] for row in ([0, 1, 3], [10, 14, 10])]
    seen = diversity(groups, lambda a, b: float((a - b).abs().mean()))
    assert seen == pytest.approx(np.mean([1, 3, 2, 4, 0, 4]))
    assert diversity([[groups[0][0]], [groups[1][0]]], lambda a, b: 1.0) is None


def test_the_interval_resamples_subjects():
    values = np.random.default_rng(0).normal(0.6, 0.1, 30)
    figure = mean_with_interval(list(values))
    draws = np.random.default_rng(1).choice(values, (20_000, 30)).mean(1)
    assert figure["mean"] == pytest.approx(values.mean(), abs=1e-5) and figure["subjects"] == 30
    assert figure["ci95"] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=2e-3)
    assert figure == mean_with_interval(list(values))


def test_too_few_subjects_have_no_interval_and_missing_values_do_not_count():
    assert mean_with_interval([0.5, None]) == {"mean": 0.5, "ci95": None, "subjects": 1}
    assert mean_with_interval([None]) == {"mean": None, "ci95": None, "subjects": 0}
