"""The nodes for those without a probe inside the host: Probe-Free Start, Guess Words and Refine Subject."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from hybridbooth_core.mappers.files import convert

from .checkpoints import write_checkpoint
from .comfy import Installation

SCRIPT = Path(__file__).parent / "inside" / "probe_free.py"


def test_words_without_a_probe_inside_the_host(installation: Installation, tmp_path: Path):
    net = nn.Sequential(nn.Linear(768, 32), nn.GELU(), nn.Dropout(), nn.Linear(32, 32), nn.GELU(), nn.Dropout(), nn.Linear(32, 768))
    torch.save({"Phi": {f"layers.{name}": tensor for name, tensor in net.state_dict().items()}}, tmp_path / "phi.pt")
    convert(tmp_path / "phi.pt", tmp_path / "phi.safetensors")
    checkpoint = write_checkpoint(tmp_path / "sd15.ckpt.safetensors")
    try:
        found = json.loads(installation.run(SCRIPT, str(checkpoint), str(tmp_path)).strip().splitlines()[-1])
    finally:
        checkpoint.unlink()
    assert found["points"] < 1e-5 and found["skip"] == 0 and found["gradient"] and found["states"] < 1e-4, found
    assert found["start"][:3] == [[5, 96], True, "probe-free"] and "3 inversion steps" in found["start"][3]
    assert found["retrieved"][0] == [2, 96] and f"class noun: {found['retrieved'][1]} " in found["retrieved"][2]
    assert found["refined"][:3] == [3, "probe-free", 0.2] and "3 steps (probe-free" in found["refined"][3] and found["refined"][4] == [3]
    assert found["lower"] and found["ordinary"] and found["untouched"]
    assert "zebra" in found["unknown"]
    assert all("CLIP ViT-L/14 was not found" in text and "Download Encoders" in text for text in found["no file"][:2]), found["no file"]
    assert "none.safetensors was not found" in found["no file"][2]
    assert found["listed"] == ["phi.safetensors"]
    assert found["guessed"][0] < 1e-5 and "CC-BY-NC-4.0" in found["guessed"][1] and found["guessed"][2] == "CC-BY-NC-4.0"
    assert found["sd15 start"] == 0
    assert "width 768" in found["other family"] and "width 96" in found["other family"]
