"""Warnings about subjects in prompts, from the graph alone."""

from __future__ import annotations

from typing import Any

import pytest

from .pack import pack_module

check = pack_module("graph_check")
INJECT, PERSONAL = "HybridBooth_InjectSubjectTokens", "HybridBooth_PersonalizeSubject"
OUTPUTS = {
    "Load": ("MODEL", "CLIP", "VAE"), "Encode": ("CONDITIONING",), "Skip": ("CLIP",), "Lora": ("MODEL", "CLIP"), "Reroute": ("*",),
    "Sample": ("LATENT",), "Text": ("STRING",), "Odd": ("IMAGE",), INJECT: ("CLIP",), PERSONAL: ("CLIP", "HB_SUBJECT", "IMAGE", "STRING"),
}  # fmt: skip


def output_type(kind: str, slot: int) -> str:
    kinds = OUTPUTS.get(kind, ())
    return kinds[slot] if slot < len(kinds) else ""


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def inject(clip: str = "load", slot: int = 1, name: Any = "pet") -> dict[str, Any]:
    return node(INJECT, clip=[clip, slot], subject=["s", 0], name=name, strength=1.0)


def said(workflow: dict | None = None, **graph: dict[str, Any]) -> list[tuple[str, str]]:
    return check.warnings({"load": node("Load", ckpt_name="a"), **graph}, output_type, workflow)


def encode(text: Any, clip: str = "inject", slot: int = 0) -> dict[str, Any]:
    return node("Encode", clip=[clip, slot], text=text)


@pytest.mark.parametrize("text", ["a <pet>", "a <PET:0.8>", "a < pet >", "(<pet>:1.2)", "＜pet＞"])
def test_a_prompt_that_names_the_subject_is_fine(text: str):
    assert said(inject=inject(), a=encode(text), b=encode("blurry")) == []


@pytest.mark.parametrize("between", ["Skip", "Lora", "Reroute"])
def test_the_name_is_known_behind_nodes_that_pass_the_clip_on(between: str):
    slot = OUTPUTS[between].index("CLIP") if "CLIP" in OUTPUTS[between] else 0
    assert said(inject=inject(), x=node(between, clip=["inject", 0]), a=encode("a <pet>", "x", slot)) == []
    assert len(said(inject=inject(), x=node(between, clip=["inject", 0]), a=encode("a pet", "x", slot))) == 1


def test_an_unpatched_clip():
    ((key, sentence), _) = said(inject=inject(), a=encode("a <pet>", "load", 1), b=encode("a cat"))
    assert key == "a" and "<pet>" in sentence and "read as plain text" in sentence


def test_tags_that_are_nobodys_name_are_not_ours():
    assert said(a=encode("a <pet>", "load", 1)) == [], "no subject in the whole graph"
    assert said(inject=inject(), a=encode("<lora:x:0.8> a <hat>", "load", 1), b=encode("a <pet>")) == []


def test_a_patched_clip_that_no_prompt_names():
    ((key, sentence),) = said(inject=inject(), a=encode("a cat"), b=encode("blurry"))
    assert key == "inject" and "no prompt names <pet>" in sentence


def test_two_subjects_of_one_name():
    ((key, sentence),) = said(inject=inject(), two=inject("inject", 0, "Pet"), a=encode("a <Pet>", "two"))[:1]
    assert key == "two" and "two nodes" in sentence and "<Pet>" in sentence
    assert said(inject=inject(), two=inject("inject", 0, "hat"), a=encode("a <pet> with a <hat>", "two")) == []


@pytest.mark.parametrize(("mode", "word"), [(4, "bypassed"), (2, "muted")])
@pytest.mark.parametrize(("kind", "values"), [(INJECT, ["pet", 1.0]), (PERSONAL, ["dog", "pet", 0, 0, True, False])])
def test_a_node_that_is_bypassed(mode: int, word: str, kind: str, values: list):
    workflow = {"nodes": [{"type": kind, "mode": mode, "widgets_values": values}]}
    ((key, sentence),) = said(workflow, a=encode("a <pet>", "load", 1))
    assert key == "a" and word in sentence
    inner = {"nodes": [], "definitions": {"subgraphs": [workflow]}}
    assert said(inner, a=encode("a <pet>", "load", 1)) == [(key, sentence)]


@pytest.mark.parametrize(
    "graph",
    [
        {"inject": inject(), "t": node("Text", text="a <pet>"), "a": encode(["t", 0])},
        {"inject": inject(name=["t", 0]), "t": node("Text", text="pet"), "a": encode("a <pet>")},
        {"inject": inject(), "x": node("Odd", clip=["inject", 0], prompt="a cat")},
        {"inject": inject()},
        {"p": node(PERSONAL, clip=["load", 1], name="pet", class_word="dog")},
    ],
    ids=["linked text", "linked name", "unknown use", "no use", "only saved"],
)
def test_nothing_is_claimed_where_nothing_can_be_known(graph: dict):
    assert said(**graph) == []


def test_damaged_graphs_raise_nothing():
    assert said(inject={"class_type": INJECT}, a={"class_type": "Encode", "inputs": {"clip": ["nowhere", 0], "text": "a <pet>"}}) == []
    loop = {"a": node("Reroute", x=["b", 0]), "b": node("Reroute", x=["a", 0]), "inject": inject("a", 0), "c": encode("<pet>")}
    assert said(**loop) == []


@pytest.mark.parametrize("name", [None, True, 5, 1.5, {"a": 1}])
def test_what_is_no_text_is_no_name(name: Any):
    graph = {"inject": inject(name=name), "other": node("Encode", name=name)}
    check.without_odd_names(graph)
    assert graph["inject"]["inputs"]["name"] == "" and graph["other"]["inputs"]["name"] == name
    kept = {"inject": inject(name=["t", 0]), "two": inject(name="pet")}
    check.without_odd_names(kept)
    assert kept["inject"]["inputs"]["name"] == ["t", 0] and kept["two"]["inputs"]["name"] == "pet"
