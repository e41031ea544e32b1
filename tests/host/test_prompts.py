"""A subject in prompts: the injected words are the saved file's words, strength 0 is the class noun, and the model is left alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from .comfy import Host
from .graphs import Graph, injected, node, refined, sampled, world

SAVED = {
    "save_subject": node("HybridBooth_SaveSubject", subject=["refine", 0], name="one", overwrite=True),
    "other": {**refined(1, 5)["refine"]},
    "save_other": node("HybridBooth_SaveSubject", subject=["other", 0], name="two", overwrite=True),
}


def _pair(host: Host, graph: Graph, with_subject: str, plain: str, clip: str = "clip") -> tuple[Tensor, Tensor]:
    """The latents of two prompts in one run: through an injected CLIP, and through the world's own."""
    outputs = host.run({**graph, **sampled(with_subject, (clip, 0), "a"), **sampled(plain, ("world", 1), "b")})
    return host.latents(outputs, "a"), host.latents(outputs, "b")


@pytest.mark.parametrize(
    ("prompt", "stock"),
    [
        ("a photo of <subject> on snow", "a photo of embedding:one on snow"),
        ("a photo of (<subject>:0.8), at night", "a photo of (embedding:one:0.8), at night"),
        ("<subject>, <subject>", "embedding:one , embedding:one"),
        ("a photo of<subject>on snow", "a photo of embedding:one on snow"),
        ("a photo of <subject:0.8>, at night", "a photo of (embedding:one:0.8), at night"),
        ("a photo of < Subject > and ＜second＞", "a photo of embedding:one and embedding:two"),
        ("<second> and (<subject>:1.3) on snow", "embedding:two and (embedding:one:1.3) on snow"),
    ],
)
def test_injected_words_are_the_saved_files_words(host: Host, prompt: str, stock: str):
    host.run({**refined(), **SAVED})
    both = {
        "first": injected(name="second", subject=("other", 0))["clip"],
        "clip": injected(clip=("first", 0))["clip"],
    }
    a, b = _pair(host, {**refined(), **SAVED, **both}, prompt, stock)
    assert torch.equal(a, b), f"they differ by {(a - b).abs().max():g}"


def test_a_loaded_subject_is_the_saved_one(host: Host):
    host.run({**refined(), **SAVED})
    graph = {**world(), "load": node("HybridBooth_LoadSubject", subject="one.safetensors"), **injected(subject=("load", 0))}
    a, b = _pair(host, graph, "a photo of <subject>", "a photo of embedding:one")
    assert torch.equal(a, b)


@pytest.mark.parametrize("prompt", ["a photo of a NOUN on snow", "a photo of a (NOUN:1.2), at night", "NOUN."])
def test_strength_zero_is_the_class_noun_bit_for_bit(host: Host, prompt: str):
    noun = "robot"
    graph = {**refined(class_word=noun), **injected(strength=0.0)}
    a, b = _pair(host, graph, prompt.replace("NOUN", "<subject>"), prompt.replace("NOUN", noun))
    assert torch.equal(a, b)


def test_strength_matters(host: Host):
    graph = {**refined(), "half": injected(0.5)["clip"], **injected(1.0)}
    prompt = "a photo of <subject> on snow"
    outputs = host.run({**graph, **sampled(prompt, ("half", 0), "a"), **sampled(prompt, ("clip", 0), "b")})
    assert not torch.equal(host.latents(outputs, "a"), host.latents(outputs, "b"))


def test_refining_and_injecting_leave_the_model_alone(host: Host):
    prompt = "a photo of a red cat on snow"
    before = host.latents(host.run({**world(), **sampled(prompt)}))
    host.run({**refined(2, seed=9), **injected(), **sampled("a photo of <subject>", ("clip", 0), "x")})
    after = host.latents(host.run({**world(), **sampled(prompt, again=True)}))
    assert torch.equal(before, after)


@pytest.mark.parametrize("name", ["My Dog", "Größe", "犬"])
def test_names_of_any_script_work_in_prompts_and_as_files(host: Host, name: str):
    graph = {**refined(), **injected(name=name), "keep": node("HybridBooth_SaveSubject", subject=["refine", 0], name=name, overwrite=True)}
    host.run({**graph, **SAVED})
    assert (host.embeddings / f"{name}.safetensors").exists()
    a, b = _pair(host, {**graph, **SAVED}, f"a photo of <{name.lower()}> on snow", "a photo of embedding:one on snow")
    assert torch.equal(a, b)
