"""A few training steps of each encoder, the judge and the autoencoder. (The gates check their quality.)"""

from __future__ import annotations

import json
import math

import pytest
import torch

from hybridbooth_core.miniature.training.loop import Schedule
from hybridbooth_core.miniature.training.readers import (
    contrastive_loss,
    train_autoencoder,
    train_clip_encoder,
    train_identity_encoder,
    train_judge,
)

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon needs torch 2.9")
SHORT = Schedule(steps=3, batch=4, warmup=1)


def curve(folder, stage: str) -> dict:
    return json.loads((folder / f"{stage}.jsonl").read_text().splitlines()[-1])


@needs_muon
def test_an_autoencoder_of_a_few_steps(tmp_path):
    net = train_autoencoder(SHORT, tmp_path)
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    row = curve(tmp_path, "autoencoder")
    assert row["step"] == 3 and math.isfinite(row["loss"]) and row["psnr"] > 3
    assert bool((net.normalise.running_var != 1).all()), "the latents' statistics were not learnt"


@needs_muon
def test_a_judge_of_a_few_steps(tmp_path):
    train_judge(SHORT, tmp_path)
    row = curve(tmp_path, "judge")
    assert {"kind", "pattern", "prompt", "other_identity", "background"} <= set(row) and 0 <= row["kind"] <= 1


@pytest.mark.slow
@needs_muon
def test_two_identity_encoders_of_a_few_steps_differ(tmp_path):
    dino, held_out = (train_identity_encoder(stage, SHORT, tmp_path) for stage in ("dino", "held_out"))
    assert 0 <= curve(tmp_path, "dino")["retrieval"] <= 1
    assert not torch.equal(dino.projection.weight, held_out.projection.weight)


@needs_muon
def test_a_clip_encoder_of_a_few_steps(tmp_path):
    pytest.importorskip("transformers")
    image, text = train_clip_encoder("clip", SHORT, tmp_path)
    assert math.isfinite(curve(tmp_path, "clip")["loss"])
    assert not image.training and not text.training
    with torch.no_grad():
        assert image.embed(torch.rand(2, 64, 64, 3)).shape == text(["a photo of a cat", ""]).shape == (2, 96)


@pytest.mark.slow
@needs_muon
def test_training_is_seeded(tmp_path):
    nets = [train_identity_encoder("dino", SHORT, tmp_path / str(i), seed) for i, seed in enumerate((5, 5, 6))]
    first, again, other = (net.projection.weight for net in nets)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_contrastive_loss_is_the_mean_of_two_cross_entropies():
    left, right = (torch.nn.functional.normalize(torch.randn(6, 8), dim=1) for _ in range(2))
    logits = (left.double() @ right.double().T) / 0.1
    rows = torch.stack([logits[i].exp().sum().log() - logits[i, i] for i in range(6)]).mean()
    columns = torch.stack([logits[:, i].exp().sum().log() - logits[i, i] for i in range(6)]).mean()
    torch.testing.assert_close(contrastive_loss(left, right).double(), (rows + columns) / 2, atol=1e-5, rtol=1e-4)
    assert contrastive_loss(left, left) < contrastive_loss(left, left.roll(1, 0))
