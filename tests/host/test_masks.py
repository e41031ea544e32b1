"""Masks as people have them: each is used, or left out with a notice; none stops the work."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from .comfy import Host
from .graphs import Graph, node, sampled, world
from .test_personalize import personalized, text_of

PROMPT = "a photo of <subject> on snow"
NOTICE = "hybridbooth.notice"


def _run(host: Host, graph: Graph) -> tuple[torch.Tensor, list[str], str]:
    """The latents of a prompt that names the subject, the notices in the browser, and the report."""
    with host.listening() as heard:
        outputs = host.run({**graph, **sampled(PROMPT, ("personal", 0), "a")})
    return host.latents(outputs, "a"), [event["text"] for event in heard.events(NOTICE)], text_of(outputs)


def _without_mask(seed: int) -> Graph:
    graph = personalized(probe=["probe", 0], seed=seed)
    del graph["personal"]["inputs"]["mask"]
    return graph


@pytest.mark.parametrize(("value", "side"), [(0.0, 64), (1.0, 64), (0.0, 96)])
def test_an_empty_or_a_full_mask_is_no_mask(host: Host, value: float, side: int):
    plain, said, _ = _run(host, _without_mask(seed=11))
    assert said == []
    graph = personalized(probe=["probe", 0], mask=["flat", 0], seed=11)
    graph["flat"] = node("SolidMask", value=value, width=side, height=side)
    found, said, report = _run(host, graph)
    assert torch.equal(found, plain)
    assert len(said) == 1 and "no mask is used" in said[0] and said[0] in report


def test_a_jpg_through_load_image_runs_as_it_is(host: Host):
    pixels = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    (host.base / "input").mkdir(exist_ok=True)
    Image.fromarray(pixels).save(host.base / "input" / "plain.jpg")
    graph = personalized(image=["photo", 0], mask=["photo", 1], class_word="cat", probe=["probe", 0])
    _, said, _ = _run(host, {**graph, "photo": node("LoadImage", image="plain.jpg")})
    assert len(said) == 1 and "no mask is used" in said[0]


def test_a_mask_of_another_size_is_resized(host: Host):
    graph = personalized(probe=["probe", 0], mask=["small", 0], seed=3)
    graph["as image"] = node("MaskToImage", mask=["creature", 1])
    graph["scaled"] = node("ImageScale", image=["as image", 0], upscale_method="area", width=128, height=128, crop="disabled")
    graph["small"] = node("ImageToMask", image=["scaled", 0], channel="red")
    _, said, report = _run(host, graph)
    assert said == [] and "note:" not in report


def test_one_mask_serves_a_batch(host: Host):
    graph = personalized(probe=["probe", 0], image=["twice", 0], seed=3)
    graph["twice"] = node("RepeatImageBatch", image=["creature", 0], amount=2)
    assert _run(host, graph)[1] == []


def test_a_mask_of_the_background_is_told_and_can_be_inverted(host: Host):
    true, said, _ = _run(host, personalized(steps=10, seed=3))
    assert said == []
    inverted = {"turned": node("InvertMask", mask=["creature", 1])}
    _, said, report = _run(host, {**personalized(steps=10, seed=3, mask=["turned", 0]), **inverted})
    assert len(said) == 2 and "border all round" in said[0] and "it seems to mark the background" in said[1] and said[1] in report
    found, said, _ = _run(host, {**personalized(steps=10, seed=3, mask=["turned", 0], invert_mask=True), **inverted})
    assert said == [] and torch.equal(found, true)


@pytest.mark.parametrize("kind", ["HybridBooth_ExtractFeatures", "HybridBooth_ProbeFreeStart", "HybridBooth_RefineSubject"])
def test_the_single_nodes_say_it_too(host: Host, kind: str):
    wired = {
        "HybridBooth_ExtractFeatures": {"probe": ["probe", 0], "vae": ["world", 2]},
        "HybridBooth_ProbeFreeStart": {"clip": ["world", 1], "class_word": "cat", "words": 2, "inversion_steps": 0},
        "HybridBooth_RefineSubject": {
            "model": ["world", 0], "clip": ["world", 1], "vae": ["world", 2], "subject": ["start", 0], "steps": 0, "effective_step": 0.0,
            "seed": 0,
        },
    }  # fmt: skip
    graph = {**world(), "flat": node("SolidMask", value=0.0, width=64, height=64)}
    graph["start"] = node(
        "HybridBooth_ProbeFreeStart", clip=["world", 1], image=["creature", 0], class_word="cat", words=2, inversion_steps=0
    )
    graph["tried"] = node(kind, image=["creature", 0], mask=["flat", 0], **wired[kind])
    with host.listening() as heard:
        host.run({**graph, "show": node("PreviewAny", source=["tried", 0])})
    assert ["no mask is used" in event["text"] for event in heard.events(NOTICE)] == [True]
