"""Self-attention over many cells on the CPU, in tiles that stay in the cache (after FlashAttention, Dao et al. 2022, arXiv 2205.14135).

Axes: B batch, H heads, N queries, M keys, d head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product as pairs
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .products import Gradients, product

TILE = 256  # queries: with 4096 keys, 4 MB of probabilities


class TiledAttention(torch.autograd.Function):
    """softmax(s Q K^T) V of q [B, H, N, d], k and v [B, H, M, d]: [B, H, N, d]. Probabilities are computed again for the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.scale = scale
        out = torch.empty_like(q)
        for head in _heads(q):
            keys, queries, values = k[head].contiguous(), q[head] * scale, v[head].t().contiguous()
            for tile in _tiles(queries):
                out[head][tile] = product(product(queries[tile], keys).softmax(-1), values)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Gradients:  # type: ignore[override]
        q, k, v = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q, k, v))
        for head in _heads(q):
            keys, queries, values, above = k[head].contiguous(), q[head] * ctx.scale, v[head].contiguous(), grad[head].contiguous()
            keys_t, of_keys, of_values = keys.t().contiguous(), keys.new_zeros(keys.shape[::-1]), values.new_zeros(values.shape[::-1])
            for tile in _tiles(queries):
                p = product(queries[tile], keys).softmax(-1)
                of_values += product(above[tile].t(), p.t())
                of_scores = torch.ops.aten._softmax_backward_data(product(above[tile], values), p, -1, p.dtype)
                of_keys += product(queries[tile].t(), of_scores.t())
                grad_q[head][tile] = product(of_scores, keys_t) * ctx.scale
            grad_k[head], grad_v[head] = of_keys.t(), of_values.t()
        return grad_q, grad_k, grad_v, None


def _heads(q: Tensor) -> Iterator[tuple[int, int]]:
    return pairs(range(q.shape[0]), range(q.shape[1]))


def _tiles(queries: Tensor) -> Iterator[slice]:
    return (slice(start, start + TILE) for start in range(0, len(queries), TILE))
