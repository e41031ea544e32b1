"""Subjects as files: a name that is taken is numbered, nothing is lost, and what is no subject is refused before the work."""

from __future__ import annotations

import urllib.request
import uuid
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from .comfy import Host
from .graphs import Graph, injected, node, refined, sampled, world

NOTICE = "hybridbooth.notice"


def saving(name: str, seed: int, overwrite: bool = False, **other: object) -> Graph:
    save = node("HybridBooth_SaveSubject", subject=["refine", 0], name=name, overwrite=overwrite, **other)
    return {**refined(1, seed), "save": save}


@pytest.fixture
def names(host: Host):
    """The names of the files that a test adds; they are removed after it."""
    before = set(host.embeddings.iterdir())
    yield lambda: sorted(path.name for path in set(host.embeddings.iterdir()) - before)
    for path in set(host.embeddings.iterdir()) - before:
        path.unlink()


def test_a_name_that_is_taken_is_numbered_and_said(host: Host, names):
    name = f"pet {uuid.uuid4().hex[:6]}"
    first = host.run(saving(name, 1))["save"]
    with host.listening() as heard:
        second = host.run(saving(name, 2))["save"]
    assert names() == [f"{name}-2.safetensors", f"{name}.safetensors"]
    assert first["text"][0].startswith(f"embeddings/{name}.safetensors, ") and "kB" in first["text"][0]
    assert "taken" in second["text"][0] and [name in event["text"] for event in heard.events(NOTICE)] == [True]
    a, b = (load_file(host.embeddings / file)["emb_params"] for file in names())
    assert not torch.equal(a, b)


def test_the_same_subject_is_kept_once(host: Host, names):
    name = f"same-{uuid.uuid4().hex[:6]}"
    host.run(saving(name, 1))
    host.fetch("/free", {"unload_models": True, "free_memory": True})
    again = host.run({**saving(name, 1), **world()})
    assert names() == [f"{name}.safetensors"]
    assert "save" not in again or "as it was" in again["save"]["text"][0] or again["save"]["text"]


def test_overwriting_replaces_the_file(host: Host, names):
    name = f"over-{uuid.uuid4().hex[:6]}"
    host.run(saving(name, 1))
    before = load_file(host.embeddings / f"{name}.safetensors")["emb_params"]
    host.run(saving(name, 2, overwrite=True))
    assert names() == [f"{name}.safetensors"]
    assert not torch.equal(load_file(host.embeddings / f"{name}.safetensors")["emb_params"], before)


def test_images_of_a_run_are_saved_although_the_name_is_taken(host: Host, names):
    name = f"kept-{uuid.uuid4().hex[:6]}"
    (host.embeddings / f"{name}.safetensors").write_bytes(b"precious")
    outputs = host.run({**saving(name, 3), **injected(), **sampled("a photo of <subject>", ("clip", 0), "x")})
    assert outputs["save"]["text"] and outputs["latentsx"]["latents"], "both the subject and the image are there"
    assert (host.embeddings / f"{name}.safetensors").read_bytes() == b"precious" and f"{name}-2.safetensors" in names()


def test_a_thumbnail_lies_beside_the_file_and_the_file_can_be_downloaded(host: Host, names):
    name = f"seen-{uuid.uuid4().hex[:6]}"
    saved = host.run(saving(name, 4, preview=["creature", 0]))["save"]
    assert names() == [f"{name}.png", f"{name}.safetensors"]
    assert host.file(saved["hybridbooth_files"][0]) == (host.embeddings / f"{name}.safetensors").read_bytes()
    assert host.file(saved["images"][0])[:4] == b"\x89PNG"
    assert len(host.fetch(f"/experiment/models/preview/embeddings/0/{name}.safetensors")) > 100


def test_a_new_file_is_listed_at_once(host: Host, names):
    name = f"new-{uuid.uuid4().hex[:6]}"
    host.run(saving(name, 5))
    options = host.get("/object_info/HybridBooth_LoadSubject")["HybridBooth_LoadSubject"]["input"]["required"]["subject"]
    assert f"{name}.safetensors" in (options[1]["options"] if options[0] == "COMBO" else options[0])
    facts = host.get(f"/view_metadata/embeddings?filename={name}.safetensors")
    assert facts["family"] == "miniature" and facts["class_noun"], "what the browser shows below the choice"


def upload(host: Host, path: Path, filename: str) -> None:
    edge = uuid.uuid4().hex
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in (("subfolder", "hybridbooth"), ("type", "input"))
    ]
    head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="{filename}"\r\n\r\n'.encode()
    body = b"".join([*parts, head, path.read_bytes(), f"\r\n--{edge}--\r\n".encode()])
    request = urllib.request.Request(f"http://{host.address}/upload/image", body, {"Content-Type": f"multipart/form-data; boundary={edge}"})
    with urllib.request.urlopen(request, timeout=60):
        pass


def test_an_uploaded_subject_is_the_saved_one(host: Host, names):
    name = f"up-{uuid.uuid4().hex[:6]}"
    host.run(saving(name, 6))
    upload(host, host.embeddings / f"{name}.safetensors", f"{name}.safetensors")
    graph = {
        **world(),
        "load": node("HybridBooth_LoadSubject", subject=f"hybridbooth/{name}.safetensors [input]"),
        **injected(subject=("load", 0)),
    }
    graph |= {"other": node("HybridBooth_LoadSubject", subject=f"{name}.safetensors"), "second": injected(subject=("other", 0))["clip"]}
    outputs = host.run({**graph, **sampled("a <subject>", ("clip", 0), "a"), **sampled("a <subject>", ("second", 0), "b")})
    assert torch.equal(host.latents(outputs, "a"), host.latents(outputs, "b"))


@pytest.mark.parametrize("name", ["gone.safetensors", "../gone.safetensors", "hybridbooth/../../secret.safetensors [input]", "/etc/passwd"])
def test_a_file_that_is_not_there_is_refused_before_the_work(host: Host, name: str):
    graph = {**world(), "load": node("HybridBooth_LoadSubject", subject=name), **injected(subject=("load", 0))}
    said = host.refused({**graph, "show": node("PreviewAny", source=["clip", 0])})
    assert "was not found in" in said and str(host.base) not in said


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"emb_params": torch.full((5, 96), float("nan"))}, "not finite"),
        ({"emb_params": torch.zeros(5, 96), "more": torch.zeros(1)}, "holds 2"),
        ({"lora": torch.zeros(5, 96)}, "lacks the tensor 'emb_params'"),
    ],
)
def test_a_file_that_is_no_subject_is_refused_before_the_work(host: Host, names, tensors: dict, says: str):
    save_file(tensors, host.embeddings / "foreign.safetensors")
    graph = {**world(), "load": node("HybridBooth_LoadSubject", subject="foreign.safetensors"), **injected(subject=("load", 0))}
    assert says in host.refused({**graph, "show": node("PreviewAny", source=["clip", 0])})
