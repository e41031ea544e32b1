"""Creatures outside what a probe knows, photos that are bad, and how the tables about them are summarised."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from benchmarks.outside import drawn, groups, language
from benchmarks.outside.photos import DEFECTS, bad_reference
from benchmarks.outside.rows import captions_of
from benchmarks.outside.tables import GROUP_TITLES, ROW_TITLES
from benchmarks.tables import results
from hybridbooth_core.miniature.evaluate import reference_of
from hybridbooth_core.miniature.world import creatures, split_numbers


def test_a_creature_outside_is_so_in_one_respect_only():
    who = creatures(split_numbers("tune", 3000))
    for group in groups.KNOWN:
        chosen = who[groups.belong(who, group)]
        assert len(chosen) > 50 and not bool(groups.KNOWN[group](chosen).any())
        assert all(bool(known(chosen).all()) for name, known in groups.KNOWN.items() if name != group)
    inside = who[groups.belong(who)]
    assert len(inside) > 50 and all(bool(known(inside).all()) for known in groups.KNOWN.values())
    assert torch.equal(groups.belong(who, "photos"), groups.belong(who)), "only their photos differ"


def test_the_probe_is_trained_on_creatures_inside():
    from hybridbooth_core.miniature.training.source import those

    numbers = those(groups.belong)(200, torch.Generator().manual_seed(0))
    assert len(numbers) == 200 and bool(groups.belong(creatures(numbers)).all())


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_bad_photo_is_the_same_each_time_and_not_the_good_one(defect):
    number = list(DEFECTS).index(defect)
    who = creatures(split_numbers("tune", len(DEFECTS)))
    row = next(row for row in range(len(who)) if int(who.number[row]) % len(DEFECTS) == number)
    bad, again, good = bad_reference(who, row), bad_reference(who, row), reference_of(who, row)
    assert torch.equal(bad.images, again.images) and bad.images.shape == good.images.shape
    assert (bad.images - good.images).abs().mean() > 0.01
    assert bad.masks is not None and good.masks is not None
    moved = (bad.masks - good.masks).abs().mean() > 0.005
    assert moved == (defect in ("turned", "hidden")), "the mask follows what hides or turns the subject"


def test_a_caption_says_the_photos_scene():
    who = creatures(split_numbers("tune", 20))
    said = captions_of(who)
    assert all(caption.count("<subject>") == 1 and caption.startswith("a photo of a ") for caption in said) and len(set(said)) > 10


def scores(*identity: float) -> dict[str, list[float]]:
    return {"identity": list(identity), "prompt": [1.0] * len(identity), "novelty": [1.0] * len(identity), "steps": [10.0] * len(identity)}


def test_a_bad_photo_is_another_subject_than_the_good_one():
    records = {}
    for index, group in enumerate(groups.GROUPS):
        numbers = [1, 2] if group in ("inside", "photos") else [10 * index, 10 * index + 1]
        records |= {f"known/{group}/{seed}": {"numbers": numbers, "scores": {"probe": scores(0.2, 0.4)}} for seed in groups.SEEDS}
        records[f"without/{group}"] = {"numbers": numbers, "scores": {"no_probe_30": scores(0.1, 0.1 * index)}}
    rows = {(row["kind"], row["method"]): row for row in groups.table(records, {"kinds": {"probe": 1.5}})}
    assert rows["kinds", "probe"]["gflop"] == 1.5 and rows["inside", "probe"]["gflop"] is None
    expected = sum(0.1 + 0.1 * index for index in range(1, len(groups.GROUPS))) / 2 / (len(groups.GROUPS) - 1)
    assert rows["all outside", "no_probe_30"]["identity"] == pytest.approx(expected, abs=1e-3)
    assert rows["all outside", "no_probe_30"]["minus_probe"] == pytest.approx(expected - 0.3, abs=1e-3)


def test_drawings_are_compared_with_true_renders_of_the_same_seeds():
    records = {}
    for arm in drawn.arms():
        base = 0.1 * arm.seed + (0.0 if arm.count == 0 else 0.05)
        table = {row: scores(base, base + 0.5) for row in drawn.ROWS}
        records[f"drawn/{arm.name}/1"] = {"numbers": [1, 2], "seen": [True, False], "scores": table}
    rows = drawn.table(records, 1)
    assert all(row["minus_true"] == pytest.approx(0 if row["trained_on"] == "true renders" else 0.05) for row in rows)
    assert {row["trained_on"]: row["seeds"] for row in rows} == {
        "true renders": 3, "2000 drawn": 3, "500 drawn": 1, "2000 drawn, own target": 1,
    }  # fmt: skip


def test_only_what_the_probe_may_see_is_drawn():
    (group,) = drawn.words().groups
    assert group.nouns == ("cat", "rabbit")


def test_other_processes_can_import_what_they_are_asked_to_measure():
    for task in [*groups.tasks(Path("w")).values(), *drawn.tasks(Path("w"), 1).values(), *language.tasks(Path("w")).values()]:
        assert "__main__" not in getattr(pickle.loads(pickle.dumps(task)), "func", task).__module__  # noqa: S301


def test_the_committed_result_has_every_group_and_row():
    measured = results("outside")
    rows = {(row["kind"], row["method"]): row for row in measured["rows"]}
    assert {kind for kind, _ in rows} == set(GROUP_TITLES) and {method for _, method in rows} >= set(ROW_TITLES)
    for row in rows.values():
        assert row["identity_ci95"][0] <= row["identity"] <= row["identity_ci95"][1]
    assert rows["all outside", "default"]["minus_probe_ci95"][0] > 0, "the default is clear of the probe alone"
    assert rows["kinds", "captioned"]["identity"] > rows["kinds", "default"]["identity"]
    assert {row["trained_on"] for row in measured["drawn"]["rows"]} == {arm.kind for arm in drawn.arms()}
    assert measured["drawn"]["masks"]["iou"] > 0.6
