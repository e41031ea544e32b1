"""What will not do what it seems to is said in the browser when the prompt is queued, once each."""

from __future__ import annotations

from typing import Any

import pytest

from .comfy import Host
from .graphs import Graph, injected, node, refined, sampled, world

NOTICE = "hybridbooth.notice"


def heard(host: Host, graph: Graph) -> list[tuple[str, str]]:
    with host.listening() as listener:
        host.run(graph)
    return [(event["node"], event["text"]) for event in listener.events(NOTICE)]


def test_nothing_is_said_where_nothing_is_wrong(host: Host):
    assert heard(host, {**refined(0), **injected(), **sampled("a photo of <SUBJECT:0.9>", ("clip", 0))}) == []


def test_a_prompt_through_the_plain_clip(host: Host):
    graph = {**refined(0), **injected(), **sampled("a photo of <subject>", ("clip", 0), "a"), **sampled("a <subject>", ("world", 1), "b")}
    ((key, text),) = heard(host, graph)
    assert key == "positiveb" and "<subject>" in text and "read as plain text" in text


def test_a_subject_that_no_prompt_names(host: Host):
    ((key, text),) = heard(host, {**refined(0), **injected(), **sampled("a photo of a cat", ("clip", 0))})
    assert key == "clip" and "no prompt names <subject>" in text


def test_two_subjects_of_one_name(host: Host):
    second = {"second": injected(clip=("clip", 0))["clip"]}
    ((key, text),) = heard(host, {**refined(0), **injected(), **second, **sampled("a photo of <subject>", ("second", 0))})
    assert key == "second" and "two nodes" in text


def test_a_bypassed_node_is_named_in_the_browsers_own_graph(host: Host):
    graph = {**world(), **sampled("a photo of <subject>", ("world", 1))}
    workflow = {"nodes": [{"type": "HybridBooth_InjectSubjectTokens", "mode": 4, "widgets_values": ["subject", 1.0]}]}
    with host.listening() as listener:
        host.wait(host.submit(graph, {"extra_pnginfo": {"workflow": workflow}}))
    ((key, text),) = [(event["node"], event["text"]) for event in listener.events(NOTICE)]
    assert key == "positive" and "bypassed" in text


@pytest.mark.parametrize("name", [None, True, 5, 1.5])
@pytest.mark.parametrize("kind", ["inject", "save"])
def test_what_is_no_text_is_no_name(host: Host, name: Any, kind: str):
    graph = {**refined(0), **injected()}
    graph["clip"]["inputs"]["name"] = name if kind == "inject" else "subject"
    graph["save"] = node("HybridBooth_SaveSubject", subject=["refine", 0], name=name if kind == "save" else "x", overwrite=True)
    if kind == "inject":
        del graph["save"]
    before = sorted(host.embeddings.iterdir())
    said = host.refused({**graph, **sampled("a photo of <subject>", ("clip", 0), "x")})
    assert "a subject's name is 1 to 64 characters" in said and sorted(host.embeddings.iterdir()) == before
