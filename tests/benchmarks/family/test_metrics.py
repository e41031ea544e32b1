"""The measures against the same formulas written out in float64."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.family.metrics import attention_off_mask, diversity, image_scores, leakage, perceptual_distance, subject_pieces
from hybridbooth_core.miniature.evaluate import EVALUATION_SCENES, class_nouns, join, reference_of
from hybridbooth_core.miniature.nets import ImageEncoder
from hybridbooth_core.miniature.render import render
from hybridbooth_core.miniature.world import creatures, repeat, split_numbers


def written_out(encoder: ImageEncoder, left: torch.Tensor, right: torch.Tensor) -> float:
    """LPIPS of one pair, cell by cell, in float64."""
    double, total = encoder.double(), 0.0
    for depth in range(2, len(double.trunk) + 1):
        a, b = (double.trunk[:depth](p.double().permute(2, 0, 1)[None] * 2 - 1)[0] for p in (left, right))
        cells = 0.0
        for row in range(a.shape[1]):
            for column in range(a.shape[2]):
                u, v = a[:, row, column], b[:, row, column]
                u, v = u / math.sqrt(float((u * u).sum())), v / math.sqrt(float((v * v).sum()))
                cells += float(((u - v) ** 2).sum())
        total += cells / (a.shape[1] * a.shape[2])
    encoder.float()
    return total


@torch.no_grad()
def test_perceptual_distance_is_the_formula():
    torch.manual_seed(0)
    encoder = ImageEncoder().eval()
    left, right = torch.rand(2, 64, 64, 3), torch.rand(2, 64, 64, 3)
    found = perceptual_distance(encoder, left, right)
    assert found.tolist() == pytest.approx([written_out(encoder, left[i], right[i]) for i in range(2)], rel=1e-4)
    assert perceptual_distance(encoder, left, left).abs().max() == 0
    assert found.min() > 0.01


@torch.no_grad()
def test_diversity_is_the_mean_over_all_pairs_of_seeds():
    torch.manual_seed(0)
    encoder, images = ImageEncoder().eval(), torch.rand(3, 2, 64, 64, 3)
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [sum(perceptual_distance(encoder, images[a, s][None], images[b, s][None]).item() for a, b in pairs) / 3 for s in (0, 1)]
    assert diversity(encoder, images).tolist() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="two sampling seeds"):
        diversity(encoder, images[:1])


def shrunk(mask: torch.Tensor, side: int) -> torch.Tensor:
    """A mask [64, 64] averaged down to [side, side] under a triangle two cells wide, in float64."""
    scale = 64 / side
    pixels, cells = torch.arange(64, dtype=torch.float64) + 0.5, (torch.arange(side, dtype=torch.float64) + 0.5) * scale
    weights = (1 - (pixels[None] - cells[:, None]).abs() / scale).clamp_min(0)
    weights = weights / weights.sum(1, keepdim=True)
    return weights @ mask.double() @ weights.T


def test_attention_off_the_mask_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(2, 3, cells, 2, generator=generator) for cells in (64, 16)]
    mask = torch.zeros(2, 64, 64)
    mask[0, 13:50, :35] = 1
    mask[1] = torch.rand(64, 64, generator=generator)
    expected = []
    for b in range(2):
        shares = []
        for layer, side in zip(maps, (8, 4), strict=True):
            small, inside, everything = shrunk(mask[b], side).flatten(), 0.0, 0.0
            for cell in range(side * side):
                attention = layer[b, :, cell].double().sum().item()
                inside, everything = inside + attention * small[cell].item(), everything + attention
            shares.append(1 - inside / everything)
        expected.append(sum(shares) / 2)
    assert attention_off_mask(maps, mask).tolist() == pytest.approx(expected, abs=1e-4)
    half = torch.zeros(1, 64, 64)
    half[:, :, :32] = 1
    even = [torch.ones(1, 2, 64, 3)]
    assert attention_off_mask(even, half).item() == pytest.approx(0.5, abs=1e-4)
    on_it = torch.zeros(1, 2, 8, 8, 3)
    on_it[:, :, :, :2] = 1
    assert attention_off_mask([on_it.flatten(2, 3)], half).item() < 0.01


def test_text_as_rows_makes_the_same_context(world):
    word = torch.randn(2, 96, generator=torch.Generator().manual_seed(0))
    rows = subject_pieces(world, ["red cat", word])
    assert rows[0].shape == (2, 96) and rows[1] is word
    as_text = world.encode_prompts([["a photo of", "red cat", word, "on snow"]])
    as_rows = world.encode_prompts([["a photo of", *rows, "on snow"]])
    torch.testing.assert_close(as_text.context, as_rows.context)
    assert as_rows.columns.tolist() == [[4, 5, 6, 7]]


def test_leakage_of_text_and_of_its_rows_is_one_number(world):
    who, where = creatures(split_numbers("tune", 1)), join(EVALUATION_SCENES[:3])
    text = leakage(world, ["red cat"], who, where)
    assert text.shape == (3,) and bool(((text > 0) & (text < 1)).all())
    torch.testing.assert_close(text, leakage(world, [world.token_embeddings("red"), "cat"], who, where))
    assert not torch.equal(text, leakage(world, ["blue cat"], who, where))


@torch.no_grad()
def test_true_renders_score_one_and_every_score_stands_at_its_image(miniature):
    who, scenes = creatures(split_numbers("tune", 1, 7)), EVALUATION_SCENES[:3]
    where, ref = join(scenes), reference_of(who, 0)
    truth, _ = render(repeat(who, 3), where)
    other, _ = render(repeat(creatures(split_numbers("tune", 1, 8)), 3), where)
    images = torch.stack([truth, truth.clone()])
    images[1, 2] = other[2]
    scores = image_scores(miniature, images, who, where, ref)
    assert {tuple(values.shape) for values in scores.values()} == {(2, 3)}
    for name in ("identity", "dino_i", "clip_i"):
        right = torch.ones(2, 3, dtype=torch.bool)
        right[1, 2] = False
        assert scores[name][right].tolist() == pytest.approx([1.0] * 5, abs=1e-4), name
        assert scores[name][1, 2] < 0.99, name
    assert scores["prompt"].min() == 1
    a, b = (miniature.held_out.embed(p)[0].double() for p in (other[2:], ref.images))
    assert scores["dino_ref"][1, 2].item() == pytest.approx(float(a @ b / (a.norm() * b.norm())), abs=1e-5)
    caption = f"a photo of a big {class_nouns(who)[0]} on snow in the middle"
    c, d = miniature.held_out_clip.embed(truth[:1])[0].double(), miniature.held_out_text([caption])[0].double()
    assert scores["clip_t"][0, 0].item() == pytest.approx(float(c @ d / (c.norm() * d.norm())), abs=1e-5)


def test_images_of_other_scenes_are_refused(miniature):
    who = creatures(split_numbers("tune", 1))
    with pytest.raises(ValueError, match="one creature in 2 scenes"):
        image_scores(miniature, torch.rand(1, 2, 64, 64, 3), who, join(EVALUATION_SCENES[:3]), reference_of(who, 0))
