"""The running host knows every node, with its texts, help pages and example."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .comfy import Host, Installation

ROOT = Path(__file__).parents[2]
ENGLISH = ROOT / "locales" / "en" / "nodeDefs.json"
TEXTS = json.loads(ENGLISH.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def nodes(host: Host) -> dict:
    return {name: info for name, info in host.get("/object_info").items() if name.startswith("HybridBooth_")}


def test_every_node_is_there_in_its_category(nodes: dict):
    assert set(nodes) == set(TEXTS)
    first = {name for name, info in nodes.items() if info["category"] == "HybridBooth"}
    assert first == {"HybridBooth_PersonalizeSubject", "HybridBooth_SaveSubject", "HybridBooth_LoadSubject"}
    folders = {info["category"] for name, info in nodes.items() if name not in first}
    assert folders == {
        f"HybridBooth/{name}" for name in ("step by step", "probe", "training", "hyperdreambooth", "instantbooth", "miniature")
    }


def test_people_find_the_node_by_the_words_they_know(nodes: dict):
    aliases = nodes["HybridBooth_PersonalizeSubject"].get("search_aliases")
    if aliases is None:
        pytest.skip("this ComfyUI has no search aliases")
    assert {"ipadapter", "reference", "face", "character", "lora", "train"} <= set(aliases)


def test_every_input_and_output_has_a_tooltip(nodes: dict):
    for name, info in nodes.items():
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert all(settings.get("tooltip") for _, settings in inputs.values()), f"an input of {name} has no tooltip"
        assert len(info["output_tooltips"]) == len(info["output"]) and all(info["output_tooltips"]), f"an output of {name} has no tooltip"


def test_the_english_texts_are_the_schemas_own(installation: Installation, tmp_path: Path):
    environment = os.environ | {"COMFYUI_PATH": str(installation.path), "COMFYUI_PYTHON": str(installation.python)}
    subprocess.run([sys.executable, "-m", "tools.locales", str(tmp_path / "made.json")], cwd=ROOT, env=environment, check=True)
    assert (tmp_path / "made.json").read_text(encoding="utf-8") == ENGLISH.read_text(encoding="utf-8"), "run python -m tools.locales"


def test_help_pages_and_the_example_are_served(host: Host):
    for name in TEXTS:
        assert host.fetch(f"/extensions/hybridbooth/docs/{name}.md").startswith(b"# ")
    assert "1_quickstart" in host.get("/workflow_templates")["hybridbooth"]
    assert host.get("/api/workflow_templates/hybridbooth/1_quickstart.json")["nodes"]


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
