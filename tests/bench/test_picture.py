"""The Pareto picture and the README's tables, from made-up results."""

from __future__ import annotations

import copy
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from hybridbooth_core.bench.plot import disc_area, pareto_figure, pareto_picture
from hybridbooth_core.bench.tables import ablation_table, family_table, size_text


def test_labels_are_all_there_and_none_covers_another(result):
    figure, axes, labels = pareto_figure(result)
    assert sorted(label.get_text() for label in labels) == sorted(str(row["steps"]) for row in result["rows"])
    renderer = figure.canvas.get_renderer()
    boxes = [label.get_window_extent(renderer) for label in labels]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
    titles = [text.get_text() for text in axes.get_legend().get_texts()]
    assert titles == list(dict.fromkeys(row["title"] for row in result["rows"]))


def test_a_disc_is_as_large_as_its_cost():
    assert disc_area(2.0, 4.0) - disc_area(0, 4.0) == pytest.approx((disc_area(4.0, 4.0) - disc_area(0, 4.0)) / 2)
    assert disc_area(0.0, 0.0) > 0


def test_the_picture_is_written_or_refused(result, tmp_path, refuses):
    for name in ("family.png", "family.jpg"):
        pareto_picture(result, tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 1000 and np.asarray(picture.convert("RGB")).std() > 10
    assert ".png" in refuses(pareto_picture, result, tmp_path / "family.txt")
    assert "cannot be written" in refuses(pareto_picture, result, tmp_path / "none" / "family.png")


def test_the_family_table_says_what_the_results_say(result):
    table = family_table(result)
    assert table.count("\n| ") - table.count("required of") - len(result["verdicts"]) == len(result["rows"]) + 1 - 0
    (head,) = [line for line in table.splitlines() if line.startswith("| **HybridBooth**")]
    row = next(row for row in result["rows"] if (row["method"], row["steps"]) == ("hybridbooth", 5))
    assert f"{row['identity']:.2f}" in head and "2.5 kB" in head
    assert "**missed**" in table or all(verdict["met"] for verdict in result["verdicts"])
    changed = copy.deepcopy(result)
    changed["verdicts"][0]["met"] = not changed["verdicts"][0]["met"]
    assert family_table(changed) != table
    assert "ELITE" in table.split("not measured")[1]


def test_the_ablation_table_says_what_the_results_say():
    row = {"variant": "full", "title": "all parts", "steps": 5, "identity_seeds": [0.5, 0.7], "identity_ci95": [0.55, 0.65]}
    row |= dict.fromkeys(("identity", "prompt", "dino_i", "clip_i", "clip_t", "leakage"), 0.6)
    less = row | {"title": "without DINO", "minus_full": {"identity": {"mean": -0.1, "ci95": [-0.2, 0.05]}}}
    grid = [{"lambda": 0.01, "lr": 2e-5, "product": 2e-7, "moved": 4.6e-5, "identity": 0.8, "prompt": 1.0}]
    claim = {"claim": "DINO helps", "outcome": "does not hold", "differences": {"dino_i": {"mean": 0.01}}}
    made = {"training": "400 steps", "probe_seeds": [0, 1], "n_identities": 32, "n_prompts": 8, "rows": [row, less], "grid": grid}
    table = ablation_table(made | {"claims": [claim]})
    assert "| without DINO | 5 | 0.60 (0.55 to 0.65) | 0.50 to 0.70 | -0.100 (-0.200 to +0.050) | 0.600 |" in table
    assert "| 0.01 | 2e-05 | 2e-07 | 4.6e-05 |" in table and "DINO helps (dino-i +0.010)" in table


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (944, "944"), (2504, "2.5 kB"), (17_040_888, "17.0 MB")])
def test_sizes_are_for_readers(count, text):
    assert size_text(count) == text
