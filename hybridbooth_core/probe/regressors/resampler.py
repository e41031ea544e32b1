"""The small regressor: a Perceiver resampler (Jaegle et al. 2021; Alayrac et al. 2022) on the merged features.

For GPUs without the memory for a copy of the denoiser's encoder half. It ignores the latents.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .blocks import CrossAttention, FeedForward


class Resampler(nn.Module):
    """Predicts token embeddings from features.

    Args:
        num_tokens, width: n and d.
        layers, heads: 3 and 12 have 36 M parameters at d = 768.
        inner: hidden width, 0 for d.
    """

    reads_latents = False

    def __init__(self, num_tokens: int, width: int, layers: int = 3, heads: int = 12, inner: int = 0):
        super().__init__()
        if not 1 <= layers <= 64:
            raise ValueError(f"expected 1 to 64 layers, found {layers}")
        inner = inner or width
        self.enter = nn.Linear(width, inner)
        self.queries = nn.Parameter(torch.randn(num_tokens, inner))
        self.layers = nn.ModuleList(ResamplerLayer(inner, heads) for _ in range(layers))
        self.out_norm = nn.LayerNorm(inner)
        self.out = nn.Linear(inner, width)
        nn.init.normal_(self.out.weight, std=0.3 / math.sqrt(inner))

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        """f [B, L, d] to outputs [B, n, d]; `latents` is ignored."""
        context = self.enter(features)
        x = self.queries.to(features).expand(len(features), -1, -1)
        for layer in self.layers:
            x = layer(x, context)
        return self.out(self.out_norm(x))

    def refined_layers(self) -> list[nn.Linear]:
        """Q, K and V of every cross-attention to the features."""
        return [p for layer in self.layers for p in (layer.read.to_q, layer.read.to_k, layer.read.to_v)]  # type: ignore[union-attr]

    def blocks(self) -> list[nn.Module]:
        """The layers, for activation checkpointing."""
        return list(self.layers)


class ResamplerLayer(nn.Module):
    """Cross-attention to the features, self-attention, feed-forward; each after a LayerNorm, with a skip connection."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm_x, self.norm_context = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read = CrossAttention(width, width, heads)
        self.norm_mix = nn.LayerNorm(width)
        self.mix = CrossAttention(width, width, heads)
        self.norm_ff = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.read(self.norm_x(x), self.norm_context(context))
        x = x + self.mix(self.norm_mix(x))
        return x + self.ff(self.norm_ff(x))
