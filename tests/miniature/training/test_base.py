"""Training of the text-to-image model: two steps change the denoiser and the text encoder, and nothing else."""

from __future__ import annotations

import json
import math

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from hybridbooth_core.miniature.nets import Autoencoder, Judge
from hybridbooth_core.miniature.training import base
from hybridbooth_core.miniature.training.loop import Schedule
from hybridbooth_core.miniature.world_model import new_text_encoder, new_unet


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon needs torch 2.9")
def test_two_steps_train_the_denoiser_and_the_text_encoder(tmp_path, monkeypatch, state_of):
    monkeypatch.setattr(base, "split_numbers", lambda split, n: torch.arange(2) + 1_000_000)
    torch.manual_seed(10)  # the start of seed 0
    start = state_of(new_unet()), state_of(new_text_encoder())
    coder, judge = Autoencoder().eval().requires_grad_(False), Judge().eval().requires_grad_(False)
    frozen = state_of(coder, judge)
    model = base.train_base(Schedule(steps=2, batch=2, warmup=1), tmp_path, coder, judge)
    row = json.loads((tmp_path / "base.jsonl").read_text().splitlines()[-1])
    assert row["step"] == 2 and math.isfinite(row["loss"])
    for trained, before in zip((model.unet, model.text_encoder), start, strict=True):
        assert any(not torch.equal(tensor, before[name]) for name, tensor in state_of(trained).items())
        assert not trained.training and not any(p.requires_grad for p in trained.parameters())
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in state_of(coder, judge).items())
