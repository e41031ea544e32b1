"""`hybridbooth convert-mapper`, by its arguments."""

from __future__ import annotations

import torch
from torch import nn

from hybridbooth_core.cli import main
from hybridbooth_core.mappers.files import load


def published(path):
    net = nn.Sequential(nn.Linear(768, 8), nn.GELU(), nn.Dropout(), nn.Linear(8, 8), nn.GELU(), nn.Dropout(), nn.Linear(8, 768))
    torch.save({"epoch": 1, "Phi": {f"layers.{name}": tensor for name, tensor in net.state_dict().items()}}, path)
    return path


def test_a_published_file_becomes_ours_and_its_licence_is_printed(tmp_path, capsys):
    out = tmp_path / "ours.safetensors"
    arguments = ["convert-mapper", str(published(tmp_path / "phi.pt")), "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "CC-BY-NC-4.0" in printed and "models/hybridbooth" in printed and load(out).licence == "CC-BY-NC-4.0"
    before = out.read_bytes()
    assert main(arguments) == 2 and "exists already" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert main([*arguments, "--overwrite", "--licence", "my own"]) == 0 and load(out).licence == "my own"


def test_a_file_that_is_none_is_one_sentence(tmp_path, capsys):
    (tmp_path / "x.pt").write_text("hello")
    assert main(["convert-mapper", str(tmp_path / "x.pt"), "--out", str(tmp_path / "y.safetensors")]) == 2
    assert capsys.readouterr().err.startswith("hybridbooth: x.pt") and not (tmp_path / "y.safetensors").exists()
    assert main(["convert-mapper", str(tmp_path / "x.pt"), "--out", str(tmp_path / "y.pt")]) == 2
