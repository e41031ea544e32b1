"""Graphs for the running host: a shipped workflow in the form that its API takes, and small ones of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORKFLOWS = Path(__file__).parents[2] / "workflows"
NOTES = {"Note", "MarkdownNote"}  # known to the browser only
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}

Graph = dict[str, Any]


def to_api(workflow: dict[str, Any], object_info: dict[str, Any]) -> Graph:
    """A workflow as the browser saves it, in the form that POST /prompt takes. `object_info` describes the nodes' inputs."""
    source = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        values = iter(node.get("widgets_values", []))
        inputs = {}
        for name, (kind, *settings) in described(object_info[node["type"]]).items():
            if isinstance(kind, list) or kind in WIDGETS:
                options = settings[0] if settings else {}
                inputs[name] = next(values, options.get("default"))  # as the browser does for a workflow older than the widget
                if options.get("control_after_generate"):
                    next(values, None)
        assert next(values, None) is None, f"more widget values than widgets in node {node['id']} ({node['type']})"
        inputs |= {slot["name"]: source[slot["link"]] for slot in node["inputs"] if slot.get("link") is not None}
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": node.get("title", node["type"])}}
    return graph


def described(info: dict[str, Any]) -> dict[str, Any]:
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def quickstart(object_info: dict[str, Any]) -> Graph:
    """The shipped quickstart."""
    return to_api(json.loads((WORKFLOWS / "1_quickstart.json").read_text()), object_info)


def node(kind: str, **inputs: Any) -> Graph:
    return {"class_type": kind, "inputs": inputs}


def world() -> Graph:
    """The miniature (node "world") and one of its creatures, read by its probe (nodes "creature", "probe", "features")."""
    return {
        "world": node("HybridBooth_LoadMiniatureWorld"),
        "creature": node(
            "HybridBooth_MiniatureCreature", number=3, background="grass", place="middle", size="big", accessory="none", style="photo"
        ),
        "probe": node("HybridBooth_LoadProbe", probe="miniature"),
        "features": node("HybridBooth_ExtractFeatures", probe=["probe", 0], vae=["world", 2], image=["creature", 0], mask=["creature", 1]),
    }


def refined(steps: int = 2, seed: int = 0, **other: Any) -> Graph:
    """`world` and its creature as a subject (node "refine"), after so many steps."""
    wired = {"model": ["world", 0], "clip": ["world", 1], "vae": ["world", 2], "probe": ["probe", 0], "features": ["features", 0]}
    settings = {"class_word": ["creature", 2], "mode": "auto", "steps": steps, "effective_step": 0.0, "seed": seed}
    return {**world(), "refine": node("HybridBooth_RefineEmbedding", **wired | settings | other)}


def injected(strength: float = 1.0, name: str = "subject", subject: Any = ("refine", 0), clip: Any = ("world", 1)) -> Graph:
    """The subject in a CLIP (node "clip")."""
    return {"clip": node("HybridBooth_InjectSubjectTokens", clip=list(clip), subject=list(subject), name=name, strength=strength)}


def sampled(prompt: str, clip: Any = ("world", 1), key: str = "", steps: int = 3, again: bool = False, model: Any = ("world", 0)) -> Graph:
    """An image of `prompt` (node "save" + key) and its latents (node "latents" + key), from `world`.

    `again`: the same image in other words, so that the host does not take it from its cache. (The empty latents pass a node that
    repeats them once.)
    """
    start = f"once{key}" if again else f"empty{key}"
    return {
        f"positive{key}": node("CLIPTextEncode", clip=list(clip), text=prompt),
        f"negative{key}": node("CLIPTextEncode", clip=["world", 1], text=""),
        f"empty{key}": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        f"once{key}": node("RepeatLatentBatch", samples=[f"empty{key}", 0], amount=1),
        f"sampler{key}": node(
            "KSampler", model=list(model), positive=[f"positive{key}", 0], negative=[f"negative{key}", 0],
            latent_image=[start, 0], seed=1, steps=steps, cfg=3.0, sampler_name="euler", scheduler="normal", denoise=1.0,
        ),
        f"image{key}": node("VAEDecode", samples=[f"sampler{key}", 0], vae=["world", 2]),
        f"save{key}": node("SaveImage", images=[f"image{key}", 0], filename_prefix=f"test{key}"),
        f"latents{key}": node("SaveLatent", samples=[f"sampler{key}", 0], filename_prefix=f"test{key}"),
    }  # fmt: skip
