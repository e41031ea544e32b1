"""The shipped workflows in the running host, as shipped but for photos, sizes and numbers of steps.

On a synthetic Stable Diffusion 1.5 checkpoint where that matters; the others on the miniature, which takes the checkpoint's place.
"""

from __future__ import annotations

import importlib
import json
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

ON_THE_MINIATURE = ["2_one_photo", "3_two_subjects", "4_several_references", "7_needs_probe", "8_needs_probe_step_by_step"]
SMALL = {
    "EmptyLatentImage": {"width": 64, "height": 64},
    "KSampler": {"steps": 2},
    "HybridBooth_PersonalizeSubject": {"steps": 1},
    "HybridBooth_RefineEmbedding": {"steps": 0},
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
    yield folder


@pytest.fixture(scope="module")
def encoders(host: Host, tmp_path_factory: pytest.TempPathFactory):
    """CLIP and DINOv2 in the host's folder, at full size with random weights."""
    folder = host.base / "models" / "hybridbooth"
    folder.mkdir(parents=True, exist_ok=True)
    large = write_encoders(folder)
    yield
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
    graph = to_api(json.loads((WORKFLOWS / f"{name}.json").read_text()), host.get("/object_info"))
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


def _on_the_miniature(graph: Graph) -> Graph:
    """The same graph with the miniature in the checkpoint's place, and nouns and sizes that it knows."""
    for entry in graph.values():
        if entry["class_type"] == "CheckpointLoaderSimple":
            entry.update(class_type="HybridBooth_LoadMiniatureWorld", inputs={})
        if entry["class_type"] == "HybridBooth_LoadProbe":
            entry["inputs"]["probe"] = "miniature"
        if entry["inputs"].get("class_word") == "dog":
            entry["inputs"]["class_word"] = "rabbit"
    return graph


def test_one_photo_needs_a_checkpoint_and_a_jpg_and_nothing_else(host: Host, photos: list[str]):
    before = sorted(path for path in (host.base / "models").rglob("*") if path.is_file())
    (host.base / "input").mkdir(exist_ok=True)
    pixels = np.random.default_rng(1).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(host.base / "input" / "plain.jpg")
    graph = _small(host, "2_one_photo", ["plain.jpg"])
    assert len([entry for entry in graph.values() if entry["class_type"].startswith("HybridBooth_")]) == 1
    (personal,) = [key for key, entry in graph.items() if entry["class_type"] == "HybridBooth_PersonalizeSubject"]
    report = {"class_type": "PreviewAny", "inputs": {"source": [personal, 3]}, "_meta": {"title": "Report"}}
    with host.listening() as heard:
        outputs = host.run({**graph, "report": report})
    assert _image(host, graph, outputs).shape == (64, 64, 3)
    said = outputs["report"]["text"][0]
    assert said.startswith("start: the class noun. With CLIP ViT-L/14 (Download Encoders, 1.71 GB)") and "1 steps (from_noun" in said
    assert heard.events("hybridbooth.notice") == [], "without a mask there is nothing to say"
    assert sorted(path for path in (host.base / "models").rglob("*") if path.is_file()) == before, "something was downloaded"


@pytest.mark.parametrize("name", ON_THE_MINIATURE)
def test_it_runs_as_shipped(host: Host, photos: list[str], name: str):
    graph = _on_the_miniature(_small(host, name, photos))
    with host.listening() as heard:
        outputs = host.run(graph)
    assert _image(host, graph, outputs).shape == (64, 64, 3)
    assert not [event for event in heard.events("hybridbooth.notice") if "<" in event["text"]], "no warning about the shipped prompts"
    reports = [
        key for key, entry in graph.items() if entry["class_type"] in ("HybridBooth_PersonalizeSubject", "HybridBooth_RefineEmbedding")
    ]
    for key in reports:
        assert Image.open(BytesIO(host.file(outputs[key]["images"][0]))).size[0] == 720
    if any(entry["class_type"] == "HybridBooth_SaveSubject" for entry in graph.values()):
        with safe_open(host.embeddings / "my-subject.safetensors", "pt") as file:
            assert list(file.keys()) == ["emb_params"] and file.get_tensor("emb_params").shape == (5, 96)
            assert file.metadata()["images"] == ("3" if name == "4_several_references" else "1")


def test_a_probe_for_stable_diffusion_reads_the_photo_and_the_control_net_steers(host: Host, photos: list[str], encoders: None):
    graph = _small(host, "8_needs_probe_step_by_step", photos)
    outputs = host.run(graph)
    assert _image(host, graph, outputs).shape == (64, 64, 3)
    with safe_open(host.embeddings / "my-subject.safetensors", "pt") as file:
        assert file.get_tensor("emb_params").shape == (5, 768)

    steered = _small(host, "5_controlnet", photos)
    (personal,) = [key for key, entry in steered.items() if entry["class_type"] == "HybridBooth_PersonalizeSubject"]
    for entry in steered.values():  # the subject of the graph above, which the host has in its cache, in place of a new one
        if entry["inputs"].get("clip") == [personal, 0]:
            entry["inputs"]["clip"] = ["clip", 0]
    del steered[personal]
    (refine,) = [key for key, entry in graph.items() if entry["class_type"] == "HybridBooth_RefineEmbedding"]
    (inject,) = [key for key, entry in graph.items() if entry["class_type"] == "HybridBooth_InjectSubjectTokens"]
    renamed = {"clip": {**graph[inject], "inputs": {**graph[inject]["inputs"], "subject": ["load", 0]}}}
    loader = next(key for key, entry in steered.items() if entry["class_type"] == "CheckpointLoaderSimple")
    renamed["clip"]["inputs"]["clip"] = [loader, 1]
    renamed["load"] = {"class_type": "HybridBooth_LoadSubject", "inputs": {"subject": "my-subject.safetensors"}, "_meta": {"title": "Load"}}
    assert refine in graph

    def image(strength: float) -> np.ndarray:
        _the(steered, "ControlNetApplyAdvanced")["strength"] = strength
        return _image(host, steered, host.run({**steered, **renamed}))

    assert not (image(0.8) == image(0.0)).all()


def test_strength_zero_is_the_plain_noun(host: Host, photos: list[str]):
    graph = _small(host, "6_load_subject", photos)
    graph_subject = Subject(torch.randn(5, 768, generator=torch.Generator().manual_seed(5)) * 0.01, SubjectInfo(class_noun="dog"))
    graph_subject.save(host.embeddings / "my-subject.safetensors", overwrite=True)
    (loader,) = [number for number, entry in graph.items() if entry["class_type"] == "CheckpointLoaderSimple"]
    prompt = _the(graph, "CLIPTextEncode", "Prompt")
    full = _image(host, graph, host.run(graph))
    _the(graph, "HybridBooth_InjectSubjectTokens")["strength"] = 0.0
    off = _image(host, graph, host.run(graph))
    prompt.update(clip=[loader, 1], text=prompt["text"].replace("<subject>", "dog"))
    assert (off == _image(host, graph, host.run(graph))).all() and not (off == full).all()


def test_both_subjects_are_in_the_image(host: Host, photos: list[str]):
    graph = _on_the_miniature(_small(host, "3_two_subjects", photos))
    prompt = _the(graph, "CLIPTextEncode", "Prompt")
    text = prompt["text"]

    def image(*replaced: tuple[str, str]) -> np.ndarray:
        prompt["text"] = text
        for old, new in replaced:
            prompt["text"] = prompt["text"].replace(old, new)
        return _image(host, graph, host.run(graph))

    both = image()
    for other in (
        image(("<second>", "cat")),
        image(("<first>", "cat")),
        image(("<first>", "<x>"), ("<second>", "<first>"), ("<x>", "<second>")),
    ):
        assert not (both == other).all()


@pytest.fixture(scope="module")
def kinds() -> ModuleType:
    """What the builder of the workflows believes of the nodes."""
    return importlib.import_module("tools.workflows.kinds")


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
