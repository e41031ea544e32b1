"""The merge against its formula, and its initialisation, which uses CLIP alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hybridbooth_core.probe.merge import FeatureMerge


def test_it_is_a_linear_of_clip_beside_an_mlp_of_dino():
    merge = FeatureMerge(6, 10, 8).double()
    torch.nn.init.normal_(merge.project.weight)
    clip, dino = torch.randn(2, 5, 6).double(), torch.randn(2, 5, 10).double()
    norm, enter, _, leave = merge.align
    centred = dino - dino.mean(-1, keepdim=True)
    normal = centred / (dino.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
    aligned = F.gelu(normal @ enter.weight.T + enter.bias) @ leave.weight.T + leave.bias
    weight = merge.project.weight
    expected = clip @ weight[:, :6].T + aligned @ weight[:, 6:].T + merge.project.bias
    torch.testing.assert_close(merge(clip, dino), expected)


def test_untrained_it_uses_clip_alone_but_dino_gets_gradients():
    merge = FeatureMerge(6, 10, 8)
    clip = torch.randn(2, 5, 6)
    assert torch.equal(merge(clip, torch.randn(2, 5, 10)), merge(clip, torch.randn(2, 5, 10)))
    assert not torch.equal(merge(clip, torch.zeros(2, 5, 10)), merge(clip + 1, torch.zeros(2, 5, 10)))
    merge(clip, torch.randn(2, 5, 10)).square().sum().backward()
    assert merge.project.weight.grad[:, 6:].abs().max() > 0


@pytest.mark.parametrize("shape", [(2, 4, 10), (1, 5, 10), (5, 10)], ids=["length", "batch", "axes"])
def test_mismatched_tokens_are_refused(shape):
    with pytest.raises(ValueError, match="equal B and L"):
        FeatureMerge(6, 10, 8)(torch.zeros(2, 5, 6), torch.zeros(shape))
