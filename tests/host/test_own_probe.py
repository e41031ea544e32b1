"""A probe from the wired model alone, in one queue entry; it is loaded, refined from, and goes on where it was stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hybridbooth_core.data.shards import read_index
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.training.own_probe import SHARDS

from .comfy import Host
from .graphs import node, refined, world

NAME = "dreamt"


def made(name: str = NAME, **other) -> dict:
    wired = {"model": ["world", 0], "clip": ["world", 1], "vae": ["world", 2]}
    settings = {"name": name, "subjects": 8, "steps": 2, "dino": "L", "seed": 0}
    return {"world": world()["world"], "make": node("HybridBooth_MakeProbe", **wired | settings | other)}


def about(host: Host, graph: dict) -> str:
    return host.run({**graph, "show": node("PreviewAny", source=["make", 1])})["show"]["text"][0]


@pytest.fixture
def place(host: Host):
    """Where the probe is saved, and the folder of its drawings; both are gone afterwards."""
    path, work = host.more_probes / f"{NAME}.safetensors", host.base / "output" / "hybridbooth_probes" / NAME
    yield path, work
    for other in (path, path.with_suffix(".md"), path.with_name(f"{path.name}.sha256")):
        other.unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)


def test_a_probe_from_nothing_but_the_model(host: Host, place: tuple[Path, Path]):
    path, work = place
    said = about(host, made())
    assert f"saved as {path.parent.name}/{NAME}.safetensors" in said and "16 images" in said
    probe = Probe.load(path)
    assert len(probe.config.gradient_norms) == 11 and probe.config.family == "miniature" and probe.config.residual_step == 3e-4
    index = read_index(work / SHARDS)
    assert index.samples == index.counts["with_mask"] and index.config["drawing"]["count"] == 8
    # the same name again loads the file, in a graph that refines from it
    graph = {**refined(steps=1), **made(seed=1)}
    graph["features"]["inputs"]["probe"] = graph["refine"]["inputs"]["probe"] = ["make", 0]
    before = path.read_bytes()
    assert "was there already" in about(host, graph)
    assert path.read_bytes() == before


def test_a_name_that_leads_elsewhere_is_refused_before_any_work(host: Host, place: tuple[Path, Path]):
    assert "name" in host.refused(made("../elsewhere"))
    assert not list(place[0].parent.parent.glob("elsewhere*"))
