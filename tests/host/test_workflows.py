"""The shipped workflows for Stable Diffusion 1.5, run on a synthetic checkpoint, as shipped but for photos, sizes and numbers of steps."""

from __future__ import annotations

import importlib.util
import json
import sys
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from hybridbooth_core.files.subject import Subject, SubjectInfo

from .comfy import Host
from .graphs import WIDGETS, WORKFLOWS, Graph, described, to_api
from .sd15_files import write_controlnet, write_encoders, write_photos, write_probe

NAMES = ["basic", "controlnet", "several_references", "probe_free", "two_subjects", "load_subject"]
SMALL = {
    "EmptyLatentImage": {"width": 64, "height": 64},
    "KSampler": {"steps": 2},
    "HybridBooth_RefineEmbedding": {"steps": 0},
    "HybridBooth_RefineSubject": {"steps": 0},
    "HybridBooth_ProbeFreeStart": {"inversion_steps": 0},
    "HybridBooth_SaveSubject": {"overwrite": True},
}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path):
    """Folders as they lie in models/, with what the workflows ask for under the very names that they ask for."""
    folder = tmp_path_factory.mktemp("sd15")
    for kind in ("checkpoints", "controlnet", "hybridbooth"):
        (folder / kind).mkdir()
    (folder / "checkpoints" / "v1-5-pruned-emaonly-fp16.safetensors").symlink_to(checkpoint)
    write_controlnet(folder / "controlnet" / "control_v11p_sd15_canny_fp16.safetensors")
    write_probe(folder / "hybridbooth" / "hybridbooth-sd15.safetensors")
    large = write_encoders(folder / "hybridbooth")
    yield folder
    for path in large:
        path.unlink()


@pytest.fixture(scope="module")
def photos(host: Host, files: Path):
    """The host with these files, two subjects and three photos; the photos' names."""
    links = [host.base / "models" / path.relative_to(files) for path in files.rglob("*.safetensors")]
    for link in links:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(files / link.relative_to(host.base / "models"))
    saved = [host.embeddings / f"{name}.safetensors" for name in ("first", "second", "my-subject")]
    for number, path in enumerate(saved):
        embeddings = torch.randn(5, 768, generator=torch.Generator().manual_seed(number)) * 0.4 / 768**0.5
        Subject(embeddings, SubjectInfo(class_noun="dog")).save(path, overwrite=True)
    (host.base / "input").mkdir(exist_ok=True)
    yield write_photos(host.base / "input")
    for path in [*links, *saved]:
        path.unlink()


def _small(host: Host, name: str, photos: list[str]) -> Graph:
    graph = to_api(json.loads((WORKFLOWS / f"sd15_{name}.json").read_text()), host.get("/object_info"))
    left = iter(photos)
    for entry in graph.values():
        entry["inputs"].update(SMALL.get(entry["class_type"], {}))
        if entry["class_type"] == "LoadImage":
            entry["inputs"]["image"] = next(left)
    return graph


def _the(graph: Graph, kind: str, title: str = "") -> dict[str, Any]:
    """The inputs of the one node of a kind (and title) in a graph."""
    found = [e["inputs"] for e in graph.values() if e["class_type"] == kind and title in ("", e["_meta"]["title"])]
    assert len(found) == 1
    return found[0]


def _image(host: Host, graph: Graph, outputs: dict[str, Any]) -> np.ndarray:
    """What the graph's Save Image saved."""
    (saved,) = [number for number, entry in graph.items() if entry["class_type"] == "SaveImage"]
    return np.asarray(Image.open(BytesIO(host.file(outputs[saved]["images"][0]))))


def test_the_control_net_steers_and_at_strength_zero_it_does_nothing(host: Host, photos: list[str]):
    def image(name: str, strength: float = 0.8) -> np.ndarray:
        graph = _small(host, name, photos)
        if name == "controlnet":
            _the(graph, "ControlNetApplyAdvanced")["strength"] = strength
        return _image(host, graph, host.run(graph))

    plain = image("basic")  # the next ones, and the next test, find its subject in the host's cache
    assert (image("controlnet", 0.0) == plain).all()
    assert not (image("controlnet") == plain).all()


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_as_shipped(host: Host, photos: list[str], name: str):
    graph = _small(host, name, photos)
    outputs = host.run(graph)
    assert _image(host, graph, outputs).shape == (64, 64, 3)
    shown = {graph[number]["_meta"]["title"] for number, output in outputs.items() if output.get("images")}
    if name in ("two_subjects", "load_subject"):
        return
    assert "Subject report" in shown
    report = next(host.file(o["images"][0]) for number, o in outputs.items() if graph[number]["_meta"]["title"] == "Subject report")
    assert Image.open(BytesIO(report)).size[0] == 720
    with safe_open(host.embeddings / "my-subject.safetensors", "pt") as file:
        assert list(file.keys()) == ["emb_params"] and file.get_tensor("emb_params").shape == (5, 768)
        assert file.metadata()["images"] == ("3" if name == "several_references" else "1")


def test_strength_zero_is_the_plain_noun(host: Host, photos: list[str]):
    graph = _small(host, "load_subject", photos)
    (loader,) = [number for number, entry in graph.items() if entry["class_type"] == "CheckpointLoaderSimple"]
    prompt = _the(graph, "CLIPTextEncode", "Prompt")
    full = _image(host, graph, host.run(graph))
    _the(graph, "HybridBooth_InjectSubjectTokens")["strength"] = 0.0
    off = _image(host, graph, host.run(graph))
    prompt.update(clip=[loader, 1], text=prompt["text"].replace("<subject>", "dog"))
    assert (off == _image(host, graph, host.run(graph))).all() and not (off == full).all()


def test_both_subjects_are_in_the_image(host: Host, photos: list[str]):
    def image(*replaced: tuple[str, str]) -> np.ndarray:
        graph = _small(host, "two_subjects", photos)
        prompt = _the(graph, "CLIPTextEncode", "Prompt")
        for old, new in replaced:
            prompt["text"] = prompt["text"].replace(old, new)
        return _image(host, graph, host.run(graph))

    both = image()
    for other in (
        image(("<second>", "dog")),
        image(("<first>", "dog")),
        image(("<first>", "<x>"), ("<second>", "<first>"), ("<x>", "<second>")),
    ):
        assert not (both == other).all()


@pytest.fixture(scope="module")
def kinds() -> ModuleType:
    """What the builder of the workflows believes of the nodes."""
    path = WORKFLOWS.parent / "tools" / "workflows" / "kinds.py"
    spec = importlib.util.spec_from_file_location("workflow_kinds", path)
    assert spec and spec.loader
    module = sys.modules["workflow_kinds"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_builder_knows_the_nodes_of_this_host(host: Host, kinds: ModuleType):
    info = host.get("/object_info")
    for name, kind in kinds.KINDS.items():
        if name == "MarkdownNote":
            continue
        widgets, sockets = [], {}
        for key, (of, *settings) in described(info[name]).items():
            if isinstance(of, list) or of in WIDGETS:
                widgets += [key, "control_after_generate"] if (settings[0] if settings else {}).get("control_after_generate") else [key]
            elif not of.startswith("COMFY_AUTOGROW"):
                sockets[key] = of
        assert {key: of for key, of in kind.inputs.items() if "." not in key} == sockets, name
        assert list(kind.widgets) == widgets, name
        live = list(zip(info[name]["output_name"], info[name]["output"], strict=True))
        assert list(kind.outputs.items()) == live[: len(kind.outputs)], name
