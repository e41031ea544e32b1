"""Personalize Subject: a subject from nothing but a checkpoint, with the best start that there is."""

from __future__ import annotations

import json
from io import BytesIO

import pytest
import torch
from PIL import Image

from .comfy import Host
from .graphs import Graph, node, refined, sampled, world

WIRED = {"model": ["world", 0], "clip": ["world", 1], "vae": ["world", 2], "image": ["creature", 0], "mask": ["creature", 1]}
SETTINGS = {"class_word": ["creature", 2], "name": "subject", "steps": 0, "seed": 0, "preview": False, "invert_mask": False}


def personalized(**other: object) -> Graph:
    """`world` with a subject in node "personal", and its report as text in node "report"."""
    return {
        **world(),
        "personal": node("HybridBooth_PersonalizeSubject", **{**WIRED, **SETTINGS, **other}),
        "report": node("PreviewAny", source=["personal", 3]),
    }


def text_of(outputs: dict) -> str:
    return outputs["report"]["text"][0]


def test_a_probe_is_the_best_start_and_the_subject_is_the_single_nodes_own(host: Host):
    graph = {**personalized(probe=["probe", 0]), **sampled("a photo of <subject> on snow", ("personal", 0), "a")}
    settings = {"class_word": ["creature", 2], "mode": "auto", "steps": -1, "effective_step": 0.0, "seed": 0}
    wired = {"model": ["world", 0], "clip": ["world", 1], "vae": ["world", 2], "probe": ["probe", 0], "features": ["features", 0]}
    graph["refine"] = node("HybridBooth_RefineEmbedding", **wired, **settings)
    graph["clip"] = node("HybridBooth_InjectSubjectTokens", clip=["world", 1], subject=["refine", 0], name="subject", strength=1.0)
    outputs = host.run({**graph, **sampled("a photo of <subject> on snow", ("clip", 0), "b")})
    told = text_of(outputs)
    assert told.startswith("start: the probe's prediction\nthe subject is like those that the probe was trained on") and "10 steps" in told
    assert torch.equal(host.latents(outputs, "a"), host.latents(outputs, "b"))
    assert Image.open(BytesIO(host.file(outputs["personal"]["images"][0]))).size[0] > 300


def test_without_a_probe_it_starts_in_clips_space(host: Host):
    outputs = host.run({**personalized(steps=2), **sampled("a photo of <subject>", ("personal", 0), "a")})
    assert "CLIP's space (probe-free)" in text_of(outputs) and "2 steps" in text_of(outputs)


@pytest.mark.parametrize(("field", "value"), [("class_word", " "), ("name", "a/b"), ("name", "")])
def test_what_is_wrong_is_said_before_the_work(host: Host, field: str, value: str):
    assert ("a class noun" if field == "class_word" else "1 to 64 characters") in host.refused(personalized(**{field: value}))


def test_a_noun_the_model_does_not_know_is_refused_in_one_sentence_without_paths(host: Host):
    history = host.wait(host.submit(personalized(class_word="zebra")))
    (said,) = [body for kind, body in history["status"]["messages"] if kind == "execution_error"]
    assert said["exception_message"].startswith("the miniature world does not know 'zebra'")
    assert said["exception_type"] == "HybridBoothError"
    assert str(host.base) not in json.dumps({key: said[key] for key in ("exception_message", "exception_type")})


def test_previews_and_the_loss_curve_are_shown_while_it_works(host: Host):
    with host.listening() as heard:
        host.run(personalized(steps=12, preview=True, seed=5))
    images = [image for image in heard.images() if image.size == (512, 256)]
    assert len(images) >= 2, "the subject beside its loss curve"
    assert any(text.startswith("step 5 of 12") for text in heard.texts())


@pytest.mark.parametrize("start", ["probe", "clip space"])
def test_a_caption_reaches_the_steps_and_its_words_are_checked(host: Host, start: str):
    wired = {"probe": ["probe", 0]} if start == "probe" else {}
    reports = [text_of(host.run(personalized(**wired, steps=2, caption=caption))) for caption in ("", "on grass", "<subject> on grass")]
    assert len(set(reports)) == 3, "another prompt gives other losses"
    assert "sofa" in host.error(personalized(**wired, steps=2, caption="on a sofa"))


def test_modes_of_older_graphs_run_though_the_menu_has_them_no_more(host: Host):
    info = host.get("/object_info/HybridBooth_RefineEmbedding")["HybridBooth_RefineEmbedding"]["input"]["required"]["mode"]
    offered = info[1]["options"] if info[0] == "COMBO" else info[0]
    assert offered == ["auto", "words", "residual"]
    show = {"show": node("PreviewAny", source=["refine", 1])}
    assert "1 steps (paper_literal" in host.run({**refined(steps=1, mode="paper_literal"), **show})["show"]["text"][0]
    assert "1 steps (words" in host.run({**refined(steps=1, mode="learned"), **show})["show"]["text"][0], "a mode that is no more"
    assert "expected one of the modes" in host.refused({**refined(steps=1, mode="magic"), **show})
