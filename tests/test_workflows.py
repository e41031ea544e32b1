"""The shipped workflows are what their builder makes, and lie on the canvas as they should."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "workflows").glob("*.json"))
TITLE = 30


def test_the_shipped_workflows_are_what_the_builder_makes(tmp_path: Path):
    subprocess.run([sys.executable, "-m", "tools.workflows", str(tmp_path)], cwd=ROOT, check=True)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text(encoding="utf-8") for path in SHIPPED}, "run python -m tools.workflows"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_nodes_lie_apart_and_in_groups_and_a_note_says_what_to_do(path: Path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    boxes = {node["id"]: (node["pos"][0], node["pos"][1] - TITLE, *node["size"]) for node in workflow["nodes"]}
    boxes = {number: (x, y, x + width, y + height + TITLE) for number, (x, y, width, height) in boxes.items()}
    groups = [(x, y, x + width, y + height) for x, y, width, height in (group["bounding"] for group in workflow["groups"])]
    for a, b in [*combinations(boxes.values(), 2), *combinations(groups, 2)]:
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], "two of them overlap"
    notes = {node["id"]: node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"}
    for number, (left, top, right, bottom) in boxes.items():
        inside = [g for g in groups if g[0] <= left and g[1] <= top and right <= g[2] and bottom <= g[3]]
        assert len(inside) == 1 or number in notes, f"node {number} is in no group"
    first = next(iter(notes.values()))
    assert not any(set("<>`") & set(text) for text in notes.values()), "one design hides it, or shows it blue on blue"
    assert first.startswith("## ") and len(first) > 400 and all(group["title"] for group in workflow["groups"])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_links_that_are_laid_along_rails_run_through_no_node(path: Path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    boxes = [(x, y - TITLE, x + w, y + h) for (x, y), (w, h) in ((node["pos"], node["size"]) for node in workflow["nodes"])]
    points = {point["id"]: point for point in workflow["extra"]["reroutes"]}
    for point in points.values():
        x, y = point["pos"]
        assert not any(a < x < c and b < y < d for a, b, c, d in boxes), "a link runs through a node"
        before = points[point["parentId"]] if "parentId" in point else point
        assert set(point["linkIds"]) <= set(before["linkIds"])
    ends = {extension["id"]: extension["parentId"] for extension in workflow["extra"]["linkExtensions"]}
    assert set(ends) == {link for point in points.values() for link in point["linkIds"]}
    assert all(link in points[end]["linkIds"] for link, end in ends.items())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_workflow_has_a_image_to_go_by(path: Path):
    with Image.open(path.with_suffix(".jpg")) as image:
        assert image.format == "JPEG" and image.size == (800, 450)
    assert path.with_suffix(".jpg").stat().st_size < 100_000
    assert {file.stem for file in path.parent.glob("*.jpg")} == {file.stem for file in SHIPPED}


TXT2IMG_NODES, TXT2IMG_LINKS = 7, 9
"""Checkpoint, two prompts, latent, sampler, decoder, saver; and the links between them."""


def test_one_photo_is_little_more_than_txt2img():
    workflow = json.loads((ROOT / "workflows" / "2_one_photo.json").read_text(encoding="utf-8"))
    nodes = [node for node in workflow["nodes"] if node["type"] != "MarkdownNote"]
    assert len(nodes) <= TXT2IMG_NODES + 3 and len(workflow["links"]) <= TXT2IMG_LINKS + 4


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_missing_nodes_and_models_can_be_found(path: Path):
    for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        ours = node["type"].startswith("HybridBooth_")
        assert node["properties"]["cnr_id"] == ("hybridbooth" if ours else "comfy-core") and node["properties"]["ver"]
        if node["type"] in ("CheckpointLoaderSimple", "ControlNetLoader"):
            (model,) = node["properties"]["models"]
            assert model["name"] == node["widgets_values"][0] and model["url"].endswith(model["name"]) and model["directory"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_both_prompts_are_read_by_the_clip_that_knows_the_subject(path: Path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    types, source = {node["id"]: node["type"] for node in workflow["nodes"]}, {link[0]: link[1] for link in workflow["links"]}
    read_by = {
        types[source[entry["link"]]]
        for node in workflow["nodes"] if node["type"] == "CLIPTextEncode"
        for entry in node["inputs"] if entry["name"] == "clip"
    }  # fmt: skip
    knowing = ("PersonalizeSubject", "InjectSubjectTokens", "ApplyWeights", "ApplyInstantSubject")
    assert read_by <= {f"HybridBooth_{name}" for name in knowing}, "the negative prompt too"


def test_those_that_need_a_probe_come_last_and_say_so():
    needing = [path.stem for path in SHIPPED if '"HybridBooth_LoadProbe"' in path.read_text(encoding="utf-8")]
    first = [path.stem for path in SHIPPED if not path.stem.startswith("9_")]  # the others bring their networks
    assert needing == first[-len(needing) :] and all("needs_probe" in name for name in needing)
    assert [path.stem for path in SHIPPED][:2] == ["1_quickstart", "2_one_photo"]
