"""Attention maps against a float64 softmax, masks against block averages."""

from __future__ import annotations

import math

import pytest
import torch

from hybridbooth_core.models.attention import head_probabilities, mask_at, token_maps


def softmax64(query, key, heads):
    """The full attention probabilities [B, H, N, T], head by head in float64."""
    width = query.shape[-1] // heads
    maps = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = query[..., part].double() @ key[..., part].double().transpose(1, 2) / math.sqrt(width)
        maps.append(scores.exp() / scores.exp().sum(-1, keepdim=True))
    return torch.stack(maps, 1)


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_probabilities_are_a_softmax_over_all_tokens(heads):
    query, key = torch.randn(3, 16, 32), torch.randn(3, 7, 32)
    columns = torch.tensor([[0, 6], [3, 2], [5, 5]])
    expected = softmax64(query, key, heads)
    expected = torch.stack([expected[row][..., columns[row]] for row in range(3)])
    torch.testing.assert_close(head_probabilities(query, key, heads, columns).double(), expected, atol=1e-6, rtol=1e-5)


def test_probabilities_of_all_columns_sum_to_one():
    found = head_probabilities(torch.randn(2, 9, 8), torch.randn(2, 5, 8), 2, torch.arange(5).expand(2, -1))
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 2, 9))


def test_half_precision_is_computed_in_float32():
    query, key = 20 * torch.randn(1, 4, 8), torch.randn(1, 3, 8)
    columns = torch.arange(3)[None]
    found = head_probabilities(query.half(), key.half(), 1, columns)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, softmax64(query.half(), key.half(), 1).float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("query", [torch.zeros(4, 8), torch.zeros(1, 4, 6)], ids=["two axes", "another width"])
def test_shapes_that_do_not_fit_are_refused(query):
    with pytest.raises(ValueError, match="divisible by 2"):
        head_probabilities(query, torch.zeros(1, 3, 8), 2, torch.tensor([[0]]))


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="divisible by 3"):
        head_probabilities(torch.zeros(1, 4, 8), torch.zeros(1, 3, 8), 3, torch.tensor([[0]]))


def test_a_mask_of_blocks_is_averaged_exactly():
    blocks = torch.rand(2, 4, 4).round(decimals=2)
    mask = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert torch.equal(mask_at(mask, 1024), mask.flatten(1))
    torch.testing.assert_close(mask_at(mask, 16).mean(1), mask.mean((1, 2)), atol=0.02, rtol=0)
    middle = mask_at(torch.ones(1, 32, 32), 16)
    torch.testing.assert_close(middle, torch.ones(1, 16))


def test_a_mask_keeps_its_orientation():
    mask = torch.zeros(1, 64, 64)
    mask[:, :32, 32:] = 1  # upper right
    small = mask_at(mask, 64).view(8, 8)
    assert small[:3, 5:].min() > 0.99 and small[5:].max() < 0.01 and small[:, :3].max() < 0.01


def test_a_non_square_number_of_cells_is_refused():
    with pytest.raises(ValueError, match="square number of cells, found 12"):
        mask_at(torch.zeros(1, 8, 8), 12)


def test_token_maps_separate_tokens_and_weigh_layers_equally():
    fine, coarse = torch.full((2, 4, 64, 2), 0.01), torch.full((2, 4, 16, 2), 0.001)
    fine[0, :, 0, 0], coarse[0, :, 0, 0] = 0.5, 0.05  # the first token attends to the first cell: upper left
    fine[1, :, -1, 1], coarse[1, :, -1, 1] = 0.5, 0.05
    maps = token_maps([fine, coarse], 32)
    assert maps.shape == (2, 2, 32, 32)
    torch.testing.assert_close(maps.mean((1, 2, 3)), torch.ones(2), atol=0.1, rtol=0)
    assert maps[0, 0, :4, :4].mean() > 10 * maps[0, 0, 16:].mean() and maps[1, 1, -4:, -4:].mean() > 10 * maps[1, 1, :16].mean()
    torch.testing.assert_close(maps[0, 1], maps[0, 1].mean().expand(32, 32))
    louder = token_maps([fine, 100 * coarse], 32)
    torch.testing.assert_close(louder, maps)


def test_token_maps_of_uniform_attention_are_one():
    torch.testing.assert_close(token_maps([torch.full((1, 2, 16, 3), 0.1)], 8), torch.ones(1, 3, 8, 8))
