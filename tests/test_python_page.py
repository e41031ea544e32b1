"""docs/python.md runs, block by block, on the miniature and on a Stable Diffusion 1.5 checkpoint, without the hub."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
SIDE = 64


class Encoder(torch.nn.Module):
    """Stands in for CLIP and DINOv2, whose files are gigabytes."""

    size, width = 28, 8

    def forward(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images.movedim(-1, 1), (2, 4)).mean(1)[:, None].expand(-1, 5, -1, -1).flatten(2)


@pytest.mark.parametrize("base", ["miniature", "checkpoint"])
def test_every_block_runs(base, stock_checkpoint, new_probe, tmp_path, monkeypatch, capsys):
    from hybridbooth_core.bases.sd15 import StableDiffusion15
    from hybridbooth_core.cli import main
    from hybridbooth_core.models.diffusers_adapter import DiffusersModel

    monkeypatch.chdir(tmp_path)
    assert main(["miniature", "creature", "4", "--out", "pet.png"]) == 0
    (tmp_path / "pet_mask.png").rename("mask.png")
    Path("v1-5-pruned-emaonly.safetensors").write_bytes(stock_checkpoint.read_bytes())
    new_probe("resampler", width=64, clip_width=8, dino_width=8).save(Path("my-probe.safetensors"))
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("the network was asked"))
    monkeypatch.setattr(StableDiffusion15, "encoders", classmethod(lambda cls, *a, **k: (Encoder(), Encoder())))
    loaded = DiffusersModel.__init__

    def small(self, *args, **kwargs):
        loaded(self, *args, **kwargs)
        self.image_size = SIDE  # the checkpoint's own 512 pixels would take minutes

    monkeypatch.setattr(DiffusersModel, "__init__", small)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 6
    names: dict = {}
    for block in blocks:
        source = block.replace('device="cuda"', 'device="cpu"')
        if base == "miniature":
            source = re.sub(r"HybridBooth\.load\([^)]*\)", 'HybridBooth.load("miniature")', source).replace('"blurry"', '"a sketch"')
            source = source.replace("on the beach", "on sand").replace('"sks"', '"red"')
        exec(compile(source, "docs/python.md", "exec"), names)  # noqa: S102  (our own page)
    printed = capsys.readouterr().out
    assert names["image"].size == (SIDE, SIDE) and len(names["images"]) == 2
    assert "from_noun: " in printed and "the prompt uses the subject <somebody>" in printed
    assert {"pet.safetensors", "snow.png", "pet_lora.safetensors", "report.png"} <= {path.name for path in tmp_path.iterdir()}
