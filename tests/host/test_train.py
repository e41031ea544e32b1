"""Train Subject (Baselines): what it learns is what diffusers learns, stock nodes load it, and the MODEL stays as it is."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .comfy import Host, Installation
from .graphs import Graph, node, refined, sampled, world

WIRED = {"model": ["world", 0], "clip": ["world", 1], "vae": ["world", 2], "image": ["creature", 0], "mask": ["creature", 1]}
METHODS = ("textual_inversion_5", "textual_inversion", "dreambooth_lora", "custom_diffusion")


def trained(method: str, name: str, **other: object) -> Graph:
    """`world` with a trained subject in node "train", and its report as text in node "report"."""
    settings = {
        "method": method, "class_word": ["creature", 2], "name": name, "steps": 3, "learning_rate": 0.01, "rank": 2, "prior_images": 2,
        "seed": 0, "preview": False,
    }  # fmt: skip
    return {
        **world(),
        "train": node("HybridBooth_TrainSubject", **{**WIRED, **settings, **other}),
        "report": node("PreviewAny", source=["train", 4]),
    }


def test_three_steps_are_those_of_diffusers_and_leave_nothing(installation: Installation):
    if not installation.has("diffusers"):
        pytest.skip(f"{installation.python} has no diffusers to compare with; pip install diffusers there")
    script = Path(__file__).parent / "inside" / "training.py"
    found = json.loads(installation.run(script).strip().splitlines()[-1])
    assert "without LoRAs" in found.pop("patched")["said"]
    for base, results in found.items():
        for method in (*METHODS, "lidb"):
            assert results[method] < 2e-3, (base, results)
            assert results[f"{method} leaves"] is True, (base, method)
        layers = {"miniature": 7, "three levels": 7}[base]
        assert results["custom_diffusion tensors"] == 2 * layers + 1 and results["dreambooth_lora tensors"] == layers * 8 * 3


def _saved(host: Host, graph: Graph, prompt: str) -> torch.Tensor:
    return host.latents(host.run({**graph, **sampled(prompt, ("clip", 0))}))


@pytest.mark.parametrize("method", METHODS)
def test_stock_nodes_load_what_it_saves(host: Host, method: str):
    name = f"made-{uuid.uuid4().hex[:6]}"
    graph = trained(method, name)
    own = sampled(f"a photo of <{name}> on snow", ("train", 1), "own")
    own["samplerown"]["inputs"]["model"] = ["train", 0]
    plain = sampled("a photo of a cat on snow", ("world", 1), "plain")
    outputs = host.run({**graph, **own, **plain})
    mine, before = host.latents(outputs, "own"), host.latents(outputs, "plain")
    report = outputs["report"]["text"][0]
    stock: Graph = {**world()}
    if method.startswith("textual_inversion"):
        text, model, clip = f"a photo of embedding:{name} on snow", ["world", 0], ("world", 1)
        assert load_file(host.embeddings / f"{name}.safetensors")["emb_params"].shape == (5 if method.endswith("5") else 1, 96)
    else:
        stock["lora"] = node(
            "LoraLoader", model=["world", 0], clip=["world", 1], lora_name=f"{name}.safetensors", strength_model=1.0, strength_clip=1.0
        )
        model, clip = ["lora", 0], ("lora", 1)
        text = report.split('write "')[1].split('"')[0] if "dreambooth" in method else report.split("write ")[1].split(" in prompts")[0]
        text = f"a photo of {text} on snow"
    stock |= sampled(text, clip, "stock")
    stock["samplerstock"]["inputs"]["model"] = model
    again = host.run({**stock, **sampled("a photo of a cat on snow", ("world", 1), "plain", again=True)})
    loaded = host.latents(again, "stock")
    assert (mine - loaded).abs().max() < 1e-4 * mine.abs().max(), "the file is what the node gives"
    assert not torch.equal(mine, before) and torch.equal(before, host.latents(again, "plain")), "the wired model stays as it is"


def test_a_name_that_is_taken_is_numbered(host: Host):
    name = f"twice-{uuid.uuid4().hex[:6]}"
    for seed, expected in ((1, name), (2, f"{name}-2")):
        graph = trained("dreambooth_lora", name, seed=seed)
        outputs = host.run({**graph, "file": node("PreviewAny", source=["train", 5])})
        assert outputs["file"]["text"] == [f"{expected}.safetensors"]
    assert (host.base / "models" / "loras" / f"{name}-2.safetensors").exists()


def test_a_lora_with_a_word_beside_it_gets_one_number_for_both(host: Host):
    name = f"both-{uuid.uuid4().hex[:6]}"
    (host.embeddings / f"{name}.safetensors").write_bytes(b"precious")
    outputs = host.run({**trained("custom_diffusion", name), "file": node("PreviewAny", source=["train", 5])})
    assert outputs["file"]["text"] == [f"{name}-2.safetensors"] and (host.embeddings / f"{name}-2.safetensors").exists()
    assert (host.embeddings / f"{name}.safetensors").read_bytes() == b"precious"


def test_a_wired_lora_is_refused_by_custom_diffusion_before_any_work(host: Host):
    made = f"wired-{uuid.uuid4().hex[:6]}"
    host.run(trained("dreambooth_lora", made))
    graph = trained("custom_diffusion", f"{made}-x", model=["lora", 0], prior_images=50)
    graph["lora"] = node("LoraLoaderModelOnly", model=["world", 0], lora_name=f"{made}.safetensors", strength_model=1.0)
    with host.listening() as heard:
        assert host.error(graph).startswith("expected a MODEL without LoRAs for Custom Diffusion")
    assert not [text for text in heard.texts() if "images of a" in text]


def test_previews_come_and_the_stop_button_works(host: Host):
    graph = trained("dreambooth_lora", f"stop-{uuid.uuid4().hex[:6]}", steps=2000, preview=True)
    with host.listening() as heard:
        running = host.submit(graph)
        while not heard.images():
            queue = host.get("/queue")
            assert queue["queue_running"] or queue["queue_pending"], host.wait(running)
            time.sleep(0.1)
        host.fetch("/interrupt", {})
        history = host.wait(running)
    assert any(kind == "execution_interrupted" for kind, _ in history["status"]["messages"])
    assert any("images of a" in text for text in heard.texts()) and heard.images()[-1].size[1] == 256


@pytest.mark.parametrize(("field", "value"), [("class_word", ""), ("name", "a/b"), ("name", None)])
def test_what_is_wrong_is_said_before_the_work(host: Host, field: str, value: object):
    graph = trained("textual_inversion", "x")
    graph["train"]["inputs"][field] = value
    assert ("a class noun" if field == "class_word" else "1 to 64 characters") in host.refused(graph)


def test_a_node_that_needs_a_subject_is_told_that_a_lora_is_none(host: Host):
    graph = trained("dreambooth_lora", f"none-{uuid.uuid4().hex[:6]}")
    graph["save"] = node("HybridBooth_SaveSubject", subject=["train", 2], name="x", overwrite=True)
    with host.listening() as heard:
        host.wait(host.submit(graph))
    (said,) = heard.events("execution_error")
    assert "makes no subject" in said["exception_message"] and not (host.embeddings / "x.safetensors").exists()


def test_a_polished_subject_is_two_stock_files(host: Host):
    """A LoRA and an embedding of one name; together they draw what the node's own outputs draw."""
    name = f"polished-{uuid.uuid4().hex[:6]}"
    wired = {"model": ["world", 0], "clip": ["world", 1], "vae": ["world", 2], "image": ["creature", 0], "mask": ["creature", 1]}
    settings = {"name": name, "steps": 3, "rank": 2, "learning_rate": 0.02, "seed": 0, "preview": False, "caption": "on grass"}
    graph = {
        **refined(steps=1),
        "polish": node("HybridBooth_PolishSubject", subject=["refine", 0], **wired, **settings),
        "report": node("PreviewAny", source=["polish", 4]),
    }
    own = sampled(f"a photo of <{name}> on snow", ("polish", 1), "own")
    own["samplerown"]["inputs"]["model"] = ["polish", 0]
    words = sampled(f"a photo of embedding:{name} on snow", ("world", 1), "words")
    outputs = host.run({**graph, **own})
    assert f"write embedding:{name} in prompts" in outputs["report"]["text"][0]
    stock: Graph = {**world()}
    stock["lora"] = node(
        "LoraLoader", model=["world", 0], clip=["world", 1], lora_name=f"{name}.safetensors", strength_model=1.0, strength_clip=1.0
    )
    both = sampled(f"a photo of embedding:{name} on snow", ("lora", 1), "stock")
    both["samplerstock"]["inputs"]["model"] = ["lora", 0]
    again = host.run({**stock, **both, **words})
    mine, loaded = host.latents(outputs, "own"), host.latents(again, "stock")
    assert (mine - loaded).abs().max() < 1e-4 * mine.abs().max()
    assert (mine - host.latents(again, "words")).abs().max() > 1e-3 * mine.abs().max(), "the LoRA is part of it"
