"""The shipped example, in the running host."""

from __future__ import annotations

import time

import torch
from safetensors.torch import load_file

from .comfy import Host
from .graphs import quickstart


def _pictures(host: Host, outputs: dict) -> dict[str, bytes]:
    return {node: host.file(image) for node, output in outputs.items() for image in output.get("images", [])}


def test_it_does_the_whole_job_within_a_minute_and_again(host: Host):
    graph = quickstart(host.get("/object_info"))
    start = time.monotonic()
    first = host.run(graph)
    assert time.monotonic() - start < 60
    pictures = _pictures(host, first)
    assert len(pictures) == 5 and len(set(pictures.values())) == 5
    report = next(output["text"][0] for output in first.values() if "text" in output)
    assert report.startswith("5 steps (learned")
    saved = load_file(host.embeddings / "quickstart-creature.safetensors")
    assert list(saved) == ["emb_params"] and saved["emb_params"].shape == (5, 96)

    host.fetch("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1.0)
    again = _pictures(host, host.run(graph))
    assert again == pictures, "queued again from nothing, the example gives other pictures"
    assert torch.equal(load_file(host.embeddings / "quickstart-creature.safetensors")["emb_params"], saved["emb_params"])
