"""Cross-attention maps: how strongly latent cells look at words, and masks at the sizes of these maps.

Axes: B batch, H heads, N latent cells of a layer (a square grid), T tokens, n chosen columns, C channels = H x head width.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


def head_probabilities(query: Tensor, key: Tensor, heads: int, columns: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(head width)) at the chosen columns only.

    Args:
        query: [B, N, C], after the projection. key: [B, T, C]. columns: int64 [B, n] into T.
    Returns:
        float32 [B, H, N, n]; each cell's probabilities over all T tokens sum to 1.
    """
    if query.ndim != 3 or key.ndim != 3 or query.shape[-1] != key.shape[-1] or query.shape[-1] % heads:
        raise ValueError(f"expected query [B, N, C] and key [B, T, C] with C divisible by {heads}, found {query.shape} and {key.shape}")
    q = rearrange(query.float(), "b n (h d) -> b h n d", h=heads)
    k = rearrange(key.float(), "b t (h d) -> b h t d", h=heads)
    probabilities = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
    index = columns[:, None, None, :].expand(-1, heads, query.shape[1], -1)
    return probabilities.gather(-1, index)


def mask_at(mask: Tensor, cells: int) -> Tensor:
    """A mask [B, H, W] in 0..1 averaged down to a square grid of `cells` cells: [B, cells]."""
    side = math.isqrt(cells)
    if side * side != cells:
        raise ValueError(f"expected a square number of cells, found {cells}")
    small = F.interpolate(mask[:, None].float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return small.flatten(1)


def token_maps(maps: list[Tensor], side: int) -> Tensor:
    """Where each word of a tap looks, [B, n, side, side] float32 on the CPU: mean over heads and layers, each layer scaled to mean 1."""
    batch, _, _, n = maps[0].shape
    total = torch.zeros(batch, n, side, side)
    for layer in maps:
        grid = math.isqrt(layer.shape[2])
        mean = rearrange(layer.detach().float().mean(1), "b (h w) n -> b n h w", h=grid).cpu()
        total += F.interpolate(mean, size=(side, side), mode="bilinear", align_corners=False) / mean.mean().clamp_min(1e-12)
    return total / len(maps)
