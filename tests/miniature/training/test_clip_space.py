"""The projections into the joint space: a few training steps, and the shipped weights."""

from __future__ import annotations

import json
import math

import pytest
import torch

from hybridbooth_core.miniature.training.clip_space import captions, train_clip_space
from hybridbooth_core.miniature.training.images import choose
from hybridbooth_core.miniature.training.loop import Schedule

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon needs torch 2.9")


@needs_muon
def test_a_few_steps_train_the_projections_alone(world, encoders, state_of, tmp_path):
    before = state_of(world.text_encoder, encoders.clip)
    heads = train_clip_space(Schedule(steps=3, batch=4, warmup=1), tmp_path, world, encoders.clip)
    row = json.loads((tmp_path / "clip_space.jsonl").read_text().splitlines()[-1])
    assert row["step"] == 3 and math.isfinite(row["loss"]) and 0 <= row["retrieval"] <= 1
    assert set(heads.state_dict()) == {"images.weight", "text.weight"}
    assert not heads.training and not any(p.requires_grad for p in heads.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in state_of(world.text_encoder, encoders.clip).items())


def test_captions_describe_the_creature_and_half_of_them_no_scene():
    who, where = choose(torch.Generator().manual_seed(1), 200)
    said = [" ".join(str(piece) for piece in caption) for caption in captions(who, where, torch.Generator().manual_seed(2))]
    kinds = ("cat", "rabbit", "robot", "fish")
    assert all(any(kind in text.split() for kind in kinds) for text in said)
    neutral = sum(text.split()[-1] in kinds and text.startswith("a photo of") for text in said)
    assert 80 <= neutral <= 150


def test_the_shipped_space_retrieves_images_by_caption():
    pytest.importorskip("diffusers")
    from hybridbooth_core.encoders.features import square_crops
    from hybridbooth_core.miniature.bundle import load_clip_space, load_model
    from hybridbooth_core.miniature.captions import describe
    from hybridbooth_core.miniature.evaluate import reference_of
    from hybridbooth_core.miniature.world import creatures, split_numbers
    from hybridbooth_core.probe_free.space import encode_texts

    model, space, who = load_model(), load_clip_space(), creatures(split_numbers("test", 24))
    refs = [reference_of(who, row) for row in range(24)]
    crops = torch.cat([square_crops(ref.images, ref.masks, 64) for ref in refs])
    texts = encode_texts(model, space.project_text, [["a photo of a", describe(who, row)] for row in range(24)])
    cosines = torch.nn.functional.cosine_similarity(space.images(crops)[:, None], texts[None], dim=2)
    ranks = (cosines > cosines.diagonal()[:, None]).sum(1).float()
    assert ranks.mean() < 4, "a true caption should be among the first few of 24; at random it would be at 11.5"
