"""Encoders inside the host: stock CLIP_VISION or files, on its device, with nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from .comfy import Installation

SCRIPT = Path(__file__).parent / "inside" / "vision.py"


def _weights(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Seeded weights of a size at which every layer matters, float16."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, shape in shapes.items():
        middle = 1.0 if name.endswith("weight") and len(shape) == 1 else 0.0
        spread = 2 * shape[1:].numel() ** -0.5 if len(shape) in (2, 4) and "embedding.weight" not in name else 0.5
        tensors[name] = torch.empty(shape).uniform_(middle - spread, middle + spread, generator=generator).half()
    return tensors


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory):
    """A folder with a whole CLIP ViT-L/14 and a DINOv2 ViT-S/14, both random."""
    timm = pytest.importorskip("timm")
    from hybridbooth_core.encoders.catalogue import TEXT_PROJECTION
    from hybridbooth_core.encoders.clip_vit import new_clip_vision

    folder = tmp_path_factory.mktemp("encoders")
    with torch.device("meta"):
        clip = new_clip_vision().network.state_dict()
        dino = timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=0).state_dict()
    shapes = {name: tensor.shape for name, tensor in clip.items()} | {TEXT_PROJECTION: torch.Size((768, 768))}
    save_file(_weights(shapes), folder / "clip.safetensors")
    save_file(_weights({name: tensor.shape for name, tensor in dino.items()}), folder / "dino.safetensors")
    yield folder
    for path in folder.glob("*.safetensors"):
        path.unlink()


def test_encoders_inside_the_host(installation: Installation, files: Path):
    if not installation.has("timm"):
        pytest.skip(f"{installation.python} has no timm: pip install -r requirements.txt there, as the host does")
    found = json.loads(installation.run(SCRIPT, str(files)).strip().splitlines()[-1])
    close = ("embedding", "file clip", "file dino", "socket clip", "socket dino")
    assert all(found[name] < 1e-4 for name in close), found
    assert found["shapes"] == [[1, 257, 1024], [1, 257, 384]] * 2 and found["miniature"] == [1, 65, 96] and found["projected"]
    assert found["ordinary"] and found["untouched"] and found["left"] == 0 and found["device"] and found["while open"] == 1
    assert found["stopped"], "cancelling stops a download"
    lines = found["report"].splitlines()
    assert lines[0].endswith(f"found: {files.name}/clip.safetensors") and lines[3].endswith(f"found: {files.name}/dino.safetensors")
    assert all("not downloaded" in line and "Apache-2.0" in line for line in lines[1:3]) and found["shown"] == found["report"]
    names = ("ViT-H/14", "336", "CLIPVisionModelProjection (729 tokens of width 1152)", "Linear")
    assert all(name in message and "CLIP ViT-L/14" in message for name, message in zip(names, found["refused"], strict=True)), found[
        "refused"
    ]
    assert "CLIP ViT-L/14 was not found" in found["missing"] and "Download Encoders" in found["missing"]
    assert "DINOv2 ViT-S/14 was not found" in found["missing dino"] and "visual_projection" in found["no projection"]
    assert len(found["offline"]) == 4 and all("HF_HUB_OFFLINE" in message and "nothing" in message for message in found["offline"])
