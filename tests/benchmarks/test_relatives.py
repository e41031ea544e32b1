"""The arms of HyperDreamBooth and InstantBooth: compared with the right ones, on the same photos."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.miniature.evaluate import Scores

pytest.importorskip("diffusers")

from benchmarks.relatives import Weighted, arms, brought, scores_of, table_row, with_iterations
from hybridbooth_core.miniature.bundle import load_miniature
from hybridbooth_core.miniature.world import creatures, split_numbers


def test_every_arm_is_compared_with_an_arm():
    table = arms()
    assert all(beside in table for beside, _ in table.values())
    assert with_iterations(4).config.iterations == 4


def test_differences_are_paired_by_creature():
    made = {name: Scores(torch.tensor(values), torch.ones(3, 2), torch.ones(3, 2)) for name, values in {
        "a": [[0.1, 0.3], [0.5, 0.5], [0.9, 0.7]], "b": [[0.2, 0.4], [0.6, 0.6], [1.0, 0.8]],
    }.items()}  # fmt: skip
    row = table_row("b", "a", made)
    assert row["identity_difference"]["mean"] == pytest.approx(0.1) and row["against"] == "a"
    assert row["identity_difference"]["ci95"] == pytest.approx([0.1, 0.1]), "the creatures differ, their differences do not"
    assert "against" not in table_row("a", "a", made)


def test_more_images_are_more_features_of_the_same_creature():
    world, who = load_miniature(), creatures(split_numbers("test", 2))
    one = brought(world, who, 1)
    assert [len(one.features[count].clip) for count in (1, 3, 5)] == [1, 3, 5]
    torch.testing.assert_close(one.features[5].clip[:1], one.features[1].clip, atol=1e-4, rtol=1e-4)
    table = arms()
    made = {name: table[name][1](world, one) for name in ("instantbooth", "instantbooth, 3 images", "hypernetwork")}
    assert isinstance(made["instantbooth"], Weighted) and len(made["instantbooth, 3 images"].reading.patches) == 3 * 65
    found = scores_of(world, [made["hypernetwork"]], who[1:])
    assert found.identity.shape == (1, 16) and float(found.prompt.mean()) > 0.5
