"""What a person may get wrong ends in one sentence on the node, and leaves nothing behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from .comfy import Host
from .graphs import injected, node, refined, sampled, world

SAVE = {"subject": ["refine", 0], "overwrite": False}


def _show(source: str) -> dict:
    """A node that makes the host run `source`."""
    return {"show": node("PreviewAny", source=[source, 0])}


def test_a_image_too_small(host: Host):
    graph = {**world(), "tiny": node("EmptyImage", width=1, height=1, batch_size=1, color=0)}
    graph["features"]["inputs"] = {"probe": ["probe", 0], "vae": ["world", 2], "image": ["tiny", 0]}
    assert "at least 16 pixels a side, found 1x1" in host.error({**graph, **_show("features")})


def test_no_class_noun(host: Host):
    assert "expected a class noun" in host.refused({**refined(class_word=" "), **_show("refine")})


def test_a_class_noun_the_miniature_does_not_know(host: Host):
    assert "does not know 'zebra'" in host.error({**refined(class_word="zebra"), **_show("refine")})


@pytest.mark.parametrize("name", ["../up", "a/b", "", "con", "x.safetensors", " ", "a<b"])
def test_a_name_that_is_no_files(host: Host, name: str):
    before = sorted(host.base.rglob("*.safetensors"))
    message = host.refused({**refined(0), "save": node("HybridBooth_SaveSubject", name=name, **SAVE)})
    assert "1 to 64 characters" in message
    assert sorted(host.base.rglob("*.safetensors")) == before


def test_a_link_that_leads_out_of_the_folder(host: Host):
    (host.embeddings / "way-out.safetensors").symlink_to(host.base / "outside.safetensors")
    try:
        message = host.error({**refined(0), "save": node("HybridBooth_SaveSubject", name="way-out", **SAVE | {"overwrite": True})})
        assert "outside" in message and not (host.base / "outside.safetensors").exists()
    finally:
        (host.embeddings / "way-out.safetensors").unlink()


def test_a_prompt_that_names_a_stranger(host: Host):
    message = host.error({**refined(0), **injected(), **sampled("a photo of <nobody>", ("clip", 0))})
    assert message.startswith("the prompt uses the subject <nobody>, but the loaded subjects are: <subject>")


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"emb_params": torch.zeros(5, 768)}, "width 768, but this CLIP (miniature) reads width 96"),
    ],
)
def test_a_file_that_is_no_subject_of_this_model(host: Host, tensors: dict, says: str):
    save_file(tensors, host.embeddings / "foreign.safetensors")
    graph = {**world(), "load": node("HybridBooth_LoadSubject", subject="foreign.safetensors"), **injected(subject=("load", 0))}
    assert says in host.error({**graph, **_show("clip")})


def test_a_foreign_subject_has_no_strength_but_one(host: Host):
    save_file({"emb_params": torch.zeros(2, 96)}, host.embeddings / "nameless.safetensors")
    graph = {**world(), "load": node("HybridBooth_LoadSubject", subject="nameless.safetensors"), **injected(0.5, subject=("load", 0))}
    assert "names no class noun" in host.error({**graph, **_show("clip")})


def test_a_probe_file_and_what_is_left_of_it(host: Host):
    built_in = Path(__file__).parents[2] / "hybridbooth_core" / "miniature" / "weights" / "probe.safetensors"
    path = host.more_probes / "own.safetensors"
    graph = {**refined(0), **_show("refine")}
    path.write_bytes(built_in.read_bytes())
    graph["probe"] = node("HybridBooth_LoadProbe", probe=path.name)
    host.run(graph)
    path.write_bytes(built_in.read_bytes()[:-4096])
    assert "own.safetensors is" in host.error(graph)


def test_stopping_within_the_work_leaves_everything_as_it_was(host: Host):
    before = host.latents(host.run({**world(), **sampled("a photo of a cat")}))
    running = host.submit({**refined(1000), **_show("refine")})
    time.sleep(2.0)
    assert host.get("/queue")["queue_running"], "the work was over before it could be stopped"
    host.fetch("/interrupt", {})
    stopped = time.monotonic()
    history = host.wait(running)
    assert time.monotonic() - stopped < 5
    assert any(kind == "execution_interrupted" for kind, _ in history["status"]["messages"])
    assert torch.equal(before, host.latents(host.run({**world(), **sampled("a photo of a cat", again=True)})))
    host.run({**refined(1), **_show("refine")})
