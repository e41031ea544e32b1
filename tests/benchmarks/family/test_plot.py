"""The Pareto image and the tables, from made-up results."""

from __future__ import annotations

import copy
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from benchmarks.family.plot import disc_area, pareto_figure, pareto_image
from benchmarks.family.tables import ablation_tables, family_tables, size_text


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


def test_the_image_is_written_or_refused(result, tmp_path, refuses):
    for name in ("family.png", "family.jpg"):
        pareto_image(result, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.width > 1000 and np.asarray(image.convert("RGB")).std() > 10
    assert ".png" in refuses(pareto_image, result, tmp_path / "family.txt")
    assert "cannot be written" in refuses(pareto_image, result, tmp_path / "none" / "family.png")


@pytest.fixture
def full(result):
    """The made-up results with what `run_bench` adds."""
    result = copy.deepcopy(result)
    for row in result["rows"]:
        row.setdefault("kind", 1.0)
    cost = {"operations": "counted", "seconds": "timed", "memory": "seen", "class_images_note": "shared", "class_images_tflop": 0.5}
    choices = {"dreambooth": {"few": {"rate": 1e-4, "chosen_at_steps": 25, "at_edge": True}}}
    return {"command": "python -m benchmarks.family", "commit": "abc", "cost": cost, "choices": choices} | result


def rows_of(text: str) -> list[str]:
    """The table rows of a Markdown text, heads and rules left out."""
    lines = text.splitlines()
    return [line for line, after in zip(lines, [*lines[1:], ""], strict=True) if line[:2] == "| " and after[:3] != "|--"]


def test_the_family_tables_say_what_the_results_say(full):
    page = family_tables(full)
    assert len(rows_of(page)) == len(full["rows"]) + len(full["verdicts"]) + 1
    (head,) = [line for line in page.splitlines() if line.startswith("| **HybridBooth**")]
    row = next(row for row in full["rows"] if (row["method"], row["steps"]) == ("hybridbooth", 10))
    assert f"{row['identity']:.2f}" in head and "2.5 kB" in head
    assert ("**missed**" in page) == (not all(verdict["met"] for verdict in full["verdicts"]))
    changed = copy.deepcopy(full)
    changed["verdicts"][0]["met"] = not changed["verdicts"][0]["met"]
    assert family_tables(changed) != page
    assert "ELITE" in page.split("not measured")[1] and "| dreambooth | few | 0.0001 | 25 | yes |" in page


def test_the_ablations_say_what_the_results_say():
    row = {"variant": "full", "title": "all parts", "steps": 5, "identity_seeds": [0.5, 0.7], "identity_ci95": [0.55, 0.65]}
    row |= dict.fromkeys(("identity", "prompt", "dino_i", "clip_i", "clip_t", "leakage"), 0.6)
    minus = {"minus_full": {"identity": {"mean": -0.1, "ci95": [-0.2, 0.05]}}}
    less = row | {"variant": "no_dino", "title": "without DINO"} | minus
    predicted = [row | {"steps": 0, "identity": 0.4}, less | {"steps": 0, "identity": 0.3}]
    claim = {"claim": "DINO helps", "outcome": "does not hold", "differences": {"dino_i": {"mean": 0.01}}}
    made = {
        "command": "c",
        "commit": "abc",
        "training": "9 steps",
        "probe_seeds": [0, 1],
        "n_identities": 32,
        "n_prompts": 8,
        "rows": [*predicted, row, less],
    }
    made |= {"claims": [claim]}
    page = ablation_tables(made)
    assert "| without DINO | 5 | 0.60 (0.55 to 0.65) | 0.50 to 0.70 | -0.100 (-0.200 to +0.050) | 0.600 |" in page
    assert "DINO helps (dino-i +0.010)" in page


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (944, "944"), (2504, "2.5 kB"), (17_040_888, "17.0 MB")])
def test_sizes_are_for_readers(count, text):
    assert size_text(count) == text
