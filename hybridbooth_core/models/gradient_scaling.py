"""Loss scaling for float16 networks: gradients are larger inside the network than outside, so that small ones do not underflow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HALF_SCALE = 4096.0
"""The loss's gradients at the network's output are near 1e-5, at the lower end of float16's range."""


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.scale, None


def scale_gradient(x: Tensor, scale: float) -> Tensor:
    """Returns x; multiplies its gradient by `scale`. Scaling a network's outputs by s and its inputs by 1 / s changes nothing outside."""
    return x if scale == 1.0 or not torch.is_grad_enabled() else _ScaleGradient.apply(x, scale)  # type: ignore[return-value]
