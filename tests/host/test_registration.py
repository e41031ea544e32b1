"""The running host knows every node, with its texts, help pages and example."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .comfy import Host

ROOT = Path(__file__).parents[2]
TEXTS = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text())


@pytest.fixture(scope="module")
def nodes(host: Host) -> dict:
    return {name: info for name, info in host.get("/object_info").items() if name.startswith("HybridBooth_")}


def test_every_node_is_there_in_its_category(nodes: dict):
    assert set(nodes) == set(TEXTS)
    assert {info["category"] for info in nodes.values()} == {"HybridBooth"}


def test_the_english_texts_are_the_schemas_own(nodes: dict):
    for name, info in nodes.items():
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        tooltips = {key: settings.get("tooltip", "") for key, (_, settings) in inputs.items()}
        assert all(tooltips.values()), f"an input of {name} has no tooltip"
        texts = TEXTS[name]
        assert (texts["display_name"], texts["description"]) == (info["display_name"], info["description"])
        assert {key: text["tooltip"] for key, text in texts.get("inputs", {}).items()} == tooltips
        assert len(texts["outputs"]) == len(info["output"])


def test_help_pages_and_the_example_are_served(host: Host):
    for name in TEXTS:
        assert host.fetch(f"/extensions/hybridbooth/docs/{name}.md").startswith(b"# ")
    assert "miniature_quickstart" in host.get("/workflow_templates")["hybridbooth"]
    assert host.get("/api/workflow_templates/hybridbooth/miniature_quickstart.json")["nodes"]


def test_probes_are_the_safetensors_of_all_probe_folders(host: Host):
    folder = host.base / "models" / "hybridbooth"
    folder.mkdir(exist_ok=True)
    for name in ("a.safetensors", "b.ckpt", "note.txt"):
        (folder / name).write_bytes(b"")
    (host.more_probes / "c.safetensors").write_bytes(b"")
    options = host.get("/object_info/HybridBooth_LoadProbe")["HybridBooth_LoadProbe"]["input"]["required"]["probe"]
    listed = options[1]["options"] if options[0] == "COMBO" else options[0]
    assert listed[0] == "miniature" and {"a.safetensors", "c.safetensors"} <= set(listed)
    assert all(name.endswith(".safetensors") for name in listed[1:])
