"""Probes at Stable Diffusion 1.5's width in the running host: a fresh one from the wired model, and what Load Probe lists and says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hybridbooth_core.probe.probe import ProbeConfig
from hybridbooth_core.probe.untrained import new_probe

from .comfy import Host, Installation
from .graphs import node, world

SCRIPT = Path(__file__).parent / "inside" / "fresh_probe.py"
READS = {"clip": "openai/clip-vit-large-patch14", "clip_width": 1024, "dino": "timm/vit_small_patch14_dinov2.lvd142m", "dino_width": 384}


@pytest.fixture(scope="module")
def stock(host: Host, checkpoint: Path):
    """A graph that loads the synthetic checkpoint by the stock node."""
    folder = host.base / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / checkpoint.name).symlink_to(checkpoint)
    yield {"checkpoint": node("CheckpointLoaderSimple", ckpt_name=checkpoint.name)}
    (folder / checkpoint.name).unlink()


def _shown(host: Host, graph: dict, source: str, output: int = 0) -> str:
    return host.run({**graph, "show": node("PreviewAny", source=[source, output])})["show"]["text"][0]


@pytest.mark.parametrize(("regressor", "parameters"), [("promptnet", "24.2 M"), ("resampler", "39.6 M")])
def test_a_fresh_probe_for_the_wired_model(host: Host, stock: dict, regressor: str, parameters: str):
    wired = {"model": ["checkpoint", 0], "clip": ["checkpoint", 1]}
    settings = {"regressor": regressor, "dino": "DINOv2 ViT-S/14", "words": 5, "seed": 0}
    about = _shown(host, {**stock, "new": node("HybridBooth_CreateProbe", **wired, **settings)}, "new", 1)
    assert about.startswith("5 token embeddings of width 768 for SD15")
    assert "trained on: nothing yet (untrained)" in about and f"regressor: {regressor}, {parameters}" in about
    assert READS["clip"] in about and READS["dino"] in about


def test_load_probe_lists_probes_and_says_what_they_are(host: Host):
    config = ProbeConfig(
        width=768, regressor="resampler", sizes={"layers": 1, "heads": 12, "inner": 48}, base_model="Stable Diffusion 1.5",
        trained_on="a thousand cats", licence="CC-BY-4.0", **READS,
    )  # fmt: skip
    new_probe(config).save(host.more_probes / "cats.safetensors")
    save_file({"weight": torch.zeros(2)}, host.more_probes / "encoder.safetensors", metadata={"format": "pt"})
    options = host.get("/object_info/HybridBooth_LoadProbe")["HybridBooth_LoadProbe"]["input"]["required"]["probe"]
    listed = options[1]["options"] if options[0] == "COMBO" else options[0]
    assert "cats.safetensors" in listed and "encoder.safetensors" not in listed
    about = _shown(host, {"probe": node("HybridBooth_LoadProbe", probe="cats.safetensors")}, "probe", 1)
    assert "trained on: a thousand cats\nlicence: CC-BY-4.0" in about and "for Stable Diffusion 1.5" in about
    assert "train creatures of the miniature world" in _shown(host, world(), "probe", 1)


def test_a_promptnet_starts_from_the_checkpoints_own_weights(installation: Installation, checkpoint: Path):
    found = json.loads(installation.run(SCRIPT, str(checkpoint)).strip().splitlines()[-1])
    assert found["taken"] > 40 and found["equal"] and found["usable"], found
    assert found["patched by"] == pytest.approx(0.5, abs=0.01), "the patch was not on the model while it was read"
    assert found["word norm"] == pytest.approx(0.4, rel=0.01)  # as the synthetic checkpoint draws its words
