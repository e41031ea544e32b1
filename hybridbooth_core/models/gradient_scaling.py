"""Gradients through a half-precision network: larger inside it than outside, so that small ones do not round to nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HALF_SCALE = 4096.0
"""A mean over a batch of latents has gradients near 1e-5 at the network's output, at the very end of float16's range."""


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.scale, None


def scale_gradient(x: Tensor, scale: float) -> Tensor:
    """x itself; its gradient is multiplied by `scale`. Scale a network's outputs by s and its inputs by 1 / s, and nothing changes."""
    return x if scale == 1.0 or not torch.is_grad_enabled() else _ScaleGradient.apply(x, scale)  # type: ignore[return-value]
