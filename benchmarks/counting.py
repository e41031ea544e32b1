"""Counts floating-point operations by formulas that depend neither on torch's version nor on the attention kernel it picks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

FUSED_ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
Shape = Sequence[int]


def counting() -> FlopCounterMode:
    """A context that counts operations, a multiply-add as two; `get_total_flops()` says how many.

    torch's own table lacks the attention kernel of the CPU in some versions, and counts the scores that a fused backward pass computes
    again. Here every fused kernel counts as the matrix products that the plain formula has, forward and backward.
    """
    formulas: dict[Any, Callable[..., int]] = {}
    for name in FUSED_ATTENTION:
        for operator, formula in ((name, attention_operations), (f"{name}_backward", attention_backward_operations)):
            if hasattr(torch.ops.aten, operator):
                formulas[getattr(torch.ops.aten, operator)] = formula
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # built with oneDNN
        formulas[torch.ops.mkldnn._linear_pointwise] = linear_operations
    return FlopCounterMode(display=False, custom_mapping=formulas)


def attention_operations(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Operations of softmax(q k^T) v: two matrix products. Shapes [B, heads, N, d], [B, heads, M, d] and [B, heads, M, e]."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def attention_backward_operations(_above: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Operations of its gradients to query, key and value: two matrix products for each of the forward pass."""
    return 2 * attention_operations(query, key, value)


def linear_operations(x: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """Operations of x [..., in] times weight [out, in]."""
    return 2 * prod(x) * weight[0]
