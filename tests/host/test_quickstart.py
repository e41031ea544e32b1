"""The shipped quickstart, in the running host."""

from __future__ import annotations

import json
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from .comfy import Host
from .graphs import WORKFLOWS, node, quickstart, to_api


def _images(host: Host, outputs: dict) -> dict[str, list[bytes]]:
    return {key: [host.file(image) for image in output["images"]] for key, output in outputs.items() if output.get("images")}


def test_it_does_the_whole_job_and_again(host: Host):
    graph = quickstart(host.get("/object_info"))
    assert len(graph) <= 12
    ids = {entry["_meta"]["title"]: key for key, entry in graph.items()}
    (personal,) = [key for key, entry in graph.items() if entry["class_type"] == "HybridBooth_PersonalizeSubject"]
    shown = _images(host, host.run(graph))
    subject, noun = (
        np.asarray(Image.open(BytesIO(image)).convert("RGB"), dtype=float) for image in shown[ids["The subject, the class noun"]]
    )
    assert np.abs(subject - noun).mean() > 5, "the subject is another creature than its class noun gives"
    assert Image.open(BytesIO(shown[personal][0])).size[0] == 720, "the subject report, on the node"

    host.fetch("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1.0)
    again = _images(host, host.run(graph))
    assert again[ids["The subject, the class noun"]] == shown[ids["The subject, the class noun"]], "queued again, it gives other images"


def test_both_halves_differ_in_the_name_alone(host: Host):
    graph = quickstart(host.get("/object_info"))
    texts = [entry["inputs"]["text"] for entry in graph.values() if entry["class_type"] == "CLIPTextEncode" and entry["inputs"]["text"]]
    samplers = [entry["inputs"] for entry in graph.values() if entry["class_type"] == "KSampler"]
    (noun,) = [entry["inputs"]["number"] for entry in graph.values() if entry["class_type"] == "HybridBooth_MiniatureCreature"]
    assert len(texts) == 2 and isinstance(noun, int)
    named, plain = sorted(texts, key=lambda text: "<subject>" not in text)
    assert named.replace("<subject>", "rabbit") == plain
    assert {key: value for key, value in samplers[0].items() if key != "positive"} == {
        key: value for key, value in samplers[1].items() if key != "positive"
    }
    scene = {"background": "grass", "place": "middle", "size": "big", "accessory": "none", "style": "photo"}
    creature = {"creature": node("HybridBooth_MiniatureCreature", number=noun, **scene), "noun": node("PreviewAny", source=["creature", 2])}
    assert host.run(creature)["noun"]["text"] == ["rabbit"], "the class noun in the prompt is the creature's"


@pytest.mark.parametrize("name", ["9_hyperdreambooth", "9_instantbooth"])
def test_the_quickstarts_of_the_relatives_do_their_job(host: Host, name: str):
    graph = to_api(json.loads((WORKFLOWS / f"{name}.json").read_text()), host.get("/object_info"))
    for entry in graph.values():
        if entry["class_type"] == "HybridBooth_FinetuneWeights":
            entry["inputs"] |= {"steps": 4, "preview": False}
    ids = {entry["_meta"]["title"]: key for key, entry in graph.items()}
    subject, noun = (
        np.asarray(Image.open(BytesIO(image)).convert("RGB"), dtype=float)
        for image in _images(host, host.run(graph))[ids["The subject, the class noun"]]
    )
    assert np.abs(subject - noun).mean() > 5, "the subject is another creature than its class noun gives"
