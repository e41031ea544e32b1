"""Cross-attention maps: probabilities at the subject's tokens, and masks at the resolutions of these maps.

Axes: B batch, H heads, N latent cells of a layer (a square grid), T tokens, n selected tokens, C channels = H x head width.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


def head_probabilities(query: Tensor, key: Tensor, heads: int, columns: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(head width)) at the selected tokens only.

    Args:
        query: [B, N, C] and key: [B, T, C], after their projections. columns: int64 [B, n], indices into T.
    Returns:
        float32 [B, H, N, n]. The softmax runs over all T tokens.
    """
    if query.ndim != 3 or key.ndim != 3 or query.shape[-1] != key.shape[-1] or query.shape[-1] % heads:
        raise ValueError(f"expected query [B, N, C] and key [B, T, C] with C divisible by {heads}, found {query.shape} and {key.shape}")
    q = rearrange(query.float(), "b n (h d) -> b h n d", h=heads)
    k = rearrange(key.float(), "b t (h d) -> b h t d", h=heads)
    probabilities = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
    index = columns[:, None, None, :].expand(-1, heads, query.shape[1], -1)
    return probabilities.gather(-1, index)


def mask_at(mask: Tensor, cells: int) -> Tensor:
    """Downsamples a mask [B, H, W] in 0..1 to a square grid of `cells` cells: [B, cells]."""
    side = math.isqrt(cells)
    if side * side != cells:
        raise ValueError(f"expected a square number of cells, found {cells}")
    small = F.interpolate(mask[:, None].float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return small.flatten(1)


def token_maps(maps: list[Tensor], side: int) -> Tensor:
    """Averages the maps of an `AttentionCapture` over heads and layers: [B, n, side, side], float32, on the CPU.

    Each layer is scaled to mean 1 first.
    """
    batch, _, _, n = maps[0].shape
    total = torch.zeros(batch, n, side, side)
    for layer in maps:
        grid = math.isqrt(layer.shape[2])
        mean = rearrange(layer.detach().float().mean(1), "b (h w) n -> b n h w", h=grid).cpu()
        total += F.interpolate(mean, size=(side, side), mode="bilinear", align_corners=False) / mean.mean().clamp_min(1e-12)
    return total / len(maps)
