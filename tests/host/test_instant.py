"""InstantBooth and HyperDreamBooth in the real host: prompts draw what was read, prompts without it are untouched, files come back."""

from __future__ import annotations

import pytest
import torch

from .comfy import Host
from .graphs import Graph, node, sampled, world

WIRED = {"model": ["world", 0], "clip": ["world", 1], "vae": ["world", 2], "image": ["creature", 0], "mask": ["creature", 1]}
SETTINGS = {"class_word": ["creature", 2], "invert_mask": False}
PROMPT = "a photo of <subject> on snow"


def instant(alpha: float = -1.0, beta: float = -1.0) -> Graph:
    """`world` with a CLIP that knows what was read of the creature, in node "clip"."""
    return {
        **world(),
        "adapter": node("HybridBooth_LoadInstantAdapter", adapter="miniature"),
        "reading": node("HybridBooth_ReadReferences", adapter=["adapter", 0], **WIRED, **SETTINGS),
        "clip": node("HybridBooth_ApplyInstantSubject", clip=["world", 1], reading=["reading", 0], name="subject", alpha=alpha, beta=beta),
    }


def predicted() -> Graph:
    """`world` with predicted weights in node "weights"."""
    return {
        **world(),
        "hyper": node("HybridBooth_LoadHypernetwork", hypernetwork="miniature"),
        "weights": node("HybridBooth_PredictWeights", hypernetwork=["hyper", 0], **WIRED, **SETTINGS),
    }


def applied(weights: str = "weights", strength: float = 1.0) -> Graph:
    settings = {"name": "subject", "strength_model": strength, "strength_clip": strength}
    return {"applied": node("HybridBooth_ApplyWeights", model=["world", 0], clip=["world", 1], weights=[weights, 0], **settings)}


def same(a: torch.Tensor, b: torch.Tensor, close: float = 0.0) -> bool:
    return float((a - b).abs().max()) <= close


def test_a_reading_is_drawn_and_other_prompts_are_untouched(host: Host):
    graph = {**instant(), **sampled(PROMPT, ("clip", 0), "a"), **sampled("a photo of a cat on snow", ("clip", 0), "b")}
    outputs = host.run({**graph, **sampled("a photo of a cat on snow", ("world", 1), "plain")})
    a, b, plain = (host.latents(outputs, name) for name in ("a", "b", "plain"))
    assert same(b, plain, 1e-4), "the same CLIP, a prompt without the subject: to rounding, since hooks stop batching"
    assert not same(a, plain, 0.1)


def test_alpha_beta_and_the_weight_in_the_prompt_act(host: Host):
    graph = {**instant(alpha=0.5, beta=0.7), **sampled(PROMPT, ("clip", 0), "a")}
    first = host.latents(host.run(graph), "a")
    graph = {**instant(alpha=1.0, beta=0.7), **sampled("a photo of (<subject>:0.5) on snow", ("clip", 0), "a")}
    assert not same(host.latents(host.run(graph), "a"), first), "the noun is weighted too"
    graph = {**instant(alpha=0.5, beta=0.0), **sampled(PROMPT, ("clip", 0), "a")}
    assert not same(host.latents(host.run(graph), "a"), first, 1e-2)


def test_predicted_weights_are_drawn_saved_and_loaded(host: Host):
    graph = {**predicted(), **applied(), **sampled(PROMPT, ("applied", 1), "a", model=("applied", 0))}
    graph["save"] = node(
        "HybridBooth_SaveWeights", model=["world", 0], clip=["world", 1], weights=["weights", 0], name="numbers", as_lora=False
    )
    graph["lora"] = {**graph["save"], "inputs": {**graph["save"]["inputs"], "as_lora": True}}
    graph |= sampled("a photo of a cat on snow", ("world", 1), "plain")
    outputs = host.run(graph)
    a, plain = host.latents(outputs, "a"), host.latents(outputs, "plain")
    assert not same(a, plain, 0.1)
    assert "/numbers.safetensors, 11.4 kB" in outputs["save"]["text"][0]
    assert outputs["lora"]["text"][0].startswith("loras/numbers.safetensors")
    again = {**world(), "loaded": node("HybridBooth_LoadWeights", weights="numbers.safetensors"), **applied("loaded")}
    again |= sampled(PROMPT, ("applied", 1), "a", model=("applied", 0))
    strengths = {"strength_model": 1.0, "strength_clip": 1.0}
    stock = {"stock": node("LoraLoader", model=["world", 0], clip=["world", 1], lora_name="numbers.safetensors", **strengths)}
    again |= {**stock, **sampled("a photo of picture rabbit on snow", ("stock", 1), "b", model=("stock", 0))}
    outputs = host.run(again)
    assert same(host.latents(outputs, "a"), a, 1e-5)
    assert same(host.latents(outputs, "b"), a, 1e-4), "stock Load LoRA, and the words that it answers to"


def test_hooks_act_in_one_conditioning(host: Host):
    graph = {**predicted(), **applied(), **sampled(PROMPT, ("applied", 1), "a", model=("world", 0))}
    positive = next(key for key, entry in graph.items() if entry["inputs"].get("text") == PROMPT)
    graph["hooked"] = node("PairConditioningSetProperties", positive_NEW=[positive, 0], negative_NEW=[positive, 0], strength=1.0,
                           set_cond_area="default", hooks=["applied", 2])  # fmt: skip
    without = host.latents(host.run(graph), "a")
    sampler = next(entry for entry in graph.values() if entry["class_type"] == "KSampler")
    sampler["inputs"]["positive"] = ["hooked", 0]
    assert not same(host.latents(host.run(graph), "a"), without, 0.05)


def test_finetuning_starts_from_weights_and_from_nothing(host: Host):
    settings = {"steps": 2, "rank": 2, "learning_rate": 0.0, "seed": 0, "preview": False, "invert_mask": False, "caption": "on grass"}
    fine = node("HybridBooth_FinetuneWeights", **WIRED, start=["weights", 0], class_word="", **settings)
    graph = {**predicted(), "fine": fine, "report": node("PreviewAny", source=["fine", 1]), **applied("fine")}
    outputs = host.run({**graph, **sampled(PROMPT, ("applied", 1), "a", model=("applied", 0))})
    assert "2 steps" in outputs["report"]["text"][0]
    alone = {**world(), "fine": node("HybridBooth_FinetuneWeights", **WIRED, class_word="", **settings)}
    assert "class noun" in host.error({**alone, "report": node("PreviewAny", source=["fine", 1])})
    alone["fine"]["inputs"]["class_word"] = ["creature", 2]
    assert "2 steps" in host.run({**alone, "report": node("PreviewAny", source=["fine", 1])})["report"]["text"][0]


@pytest.mark.parametrize("kind", ["ApplyInstantSubject", "ApplyWeights"])
def test_bad_names_are_refused(host: Host, kind: str):
    graph = instant() if kind == "ApplyInstantSubject" else {**predicted(), **applied()}
    place = "clip" if kind == "ApplyInstantSubject" else "applied"
    graph[place]["inputs"]["name"] = "a/b"
    output = 0 if place == "clip" else 1
    assert "1 to 64 characters" in host.refused({**graph, **sampled("a cat", (place, output), "a")})
