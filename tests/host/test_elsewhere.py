"""A subject of Stable Diffusion 1.5's width in stock ComfyUI, without our nodes: `embedding:name` says what Inject Subject Tokens says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hybridbooth_core.files.subject import Subject, SubjectInfo

from .comfy import Host
from .graphs import node


@pytest.fixture
def stock(host: Host, checkpoint: Path):
    """Stock nodes that load the synthetic checkpoint, which lies in the host's folder under a name of its own; and a saved subject."""
    link = host.base / "models" / "checkpoints" / "elsewhere.safetensors"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(checkpoint)
    embeddings = torch.randn(5, 768, generator=torch.Generator().manual_seed(5)) * 0.4 / 768**0.5
    Subject(embeddings, SubjectInfo(class_noun="cat")).save(host.embeddings / "pet.safetensors")
    yield {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=link.name),
        "load": node("HybridBooth_LoadSubject", subject="pet.safetensors"),
        "ours": node("HybridBooth_InjectSubjectTokens", clip=["checkpoint", 1], subject=["load", 0], name="pet", strength=1.0),
        "empty": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "negative": node("CLIPTextEncode", clip=["checkpoint", 1], text=""),
    }
    link.unlink()
    (host.embeddings / "pet.safetensors").unlink()


def _latents(host: Host, stock: dict, clip: list, prompt: str) -> torch.Tensor:
    sampler = node(
        "KSampler", model=["checkpoint", 0], positive=["text", 0], negative=["negative", 0], latent_image=["empty", 0],
        seed=1, steps=2, cfg=5.0, sampler_name="euler", scheduler="normal", denoise=1.0,
    )  # fmt: skip
    drawn = {"text": node("CLIPTextEncode", clip=clip, text=prompt), "sampler": sampler}
    return host.latents(host.run({**stock, **drawn, "latents": node("SaveLatent", samples=["sampler", 0], filename_prefix="elsewhere")}))


def test_stock_comfyui_reads_the_saved_file(host: Host, stock: dict):
    stocks = _latents(host, stock, ["checkpoint", 1], "a photo of (embedding:pet:0.9), on snow")
    ours = _latents(host, stock, ["ours", 0], "a photo of (<pet>:0.9), on snow")
    plain = _latents(host, stock, ["checkpoint", 1], "a photo of (cat:0.9), on snow")
    assert torch.equal(stocks, ours), f"they differ by {(stocks - ours).abs().max():g}"
    assert not torch.equal(stocks, plain), "the words change nothing"
