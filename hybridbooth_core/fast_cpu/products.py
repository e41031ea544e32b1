"""Matrix products, linear layers and convolutions in float32 on the CPU, forward and backward.

Frozen weights need no inputs for the backward pass, so a layer with frozen weights keeps none.

Axes: B batch, i o input and output features, C channels, h w rows and columns of cells, k side of a kernel.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Gradients = tuple[Tensor | None, ...]


@cache
def onednn_is_faster() -> bool:
    """Whether this is a processor of AMD with AVX-512, where PyTorch's choice, MKL, keeps to AVX2 and oneDNN does not: twice the speed."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    listing = Path("/proc/cpuinfo")
    processor = listing.read_text() if listing.exists() else platform.processor()
    return "AuthenticAMD" in processor and torch.backends.cpu.get_cpu_capability() == "AVX512"


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., i] times the transpose of weight [o, i], plus bias [o]: [..., o]. It passes no gradient."""
    if onednn_is_faster():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


class Linear(torch.autograd.Function):
    """x [..., i], weight [o, i], bias [o] or None to [..., o]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight, x if ctx.needs_input_grad[1] else None)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Gradients:  # type: ignore[override]
        weight, x = ctx.saved_tensors
        by_x, by_weight, by_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            product(grad, weight.t()) if by_x else None,
            product(rows.t(), x.reshape(-1, x.shape[-1]).t()) if by_weight else None,
            rows.sum(0) if by_bias else None,
        )


class Convolution(torch.autograd.Function):
    """x [B, C, h, w], weight [o, C, k, k], bias [o] or None, stride and padding the same both ways; PyTorch's own arithmetic."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(weight, x if ctx.needs_input_grad[1] else None)
        ctx.shape, ctx.stride, ctx.padding = x.shape, stride, padding
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Gradients:  # type: ignore[override]
        weight, x = ctx.saved_tensors
        x = weight.new_empty(1).expand(ctx.shape) if x is None else x  # only its shape is read
        places = [ctx.stride] * 2, [ctx.padding] * 2, [1, 1], False, [0, 0], 1
        wanted = list(ctx.needs_input_grad[:3])
        return *torch.ops.aten.convolution_backward(grad, x, weight, [len(weight)], *places, wanted), None, None


class GatheredConvolution(torch.autograd.Function):
    """The same as one product over the gathered neighbourhoods of all cells.

    Over few cells that is several times as fast as oneDNN, which first reorders the weights: 59 MB of them for 64 cells.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(weight, x if ctx.needs_input_grad[1] else None)
        ctx.shape, ctx.places = x.shape, (weight.shape[-1], stride, padding)
        return product(gather(x, *ctx.places), weight.flatten(1), bias).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Gradients:  # type: ignore[override]
        weight, x = ctx.saved_tensors
        by_x, by_weight, by_bias, *_ = ctx.needs_input_grad
        grad = grad.permute(0, 2, 3, 1)
        rows = grad.reshape(-1, grad.shape[-1])
        grad_x = scatter(product(grad, weight.flatten(1).t()), ctx.shape, *ctx.places) if by_x else None
        grad_weight = None
        if by_weight:
            cells = gather(x, *ctx.places).flatten(0, 2)
            grad_weight = product(rows.t(), cells.t()).view(weight.shape)
        return grad_x, grad_weight, rows.sum(0) if by_bias else None, None, None


def gather(x: Tensor, side: int, stride: int, padding: int) -> Tensor:
    """The neighbourhood of every output cell: [B, C, h, w] to [B, h', w', C k k]."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    return padded.unfold(1, side, stride).unfold(2, side, stride).flatten(3)


def scatter(cells: Tensor, shape: torch.Size, side: int, stride: int, padding: int) -> Tensor:
    """The transpose of `gather`: [B, h', w', C k k] summed into [B, C, h, w]."""
    batch, channels, height, width = shape
    _, rows, columns, _ = cells.shape
    parts = cells.view(batch, rows, columns, channels, side, side)
    total = cells.new_zeros(batch, height + 2 * padding, width + 2 * padding, channels)
    for i in range(side):
        for j in range(side):
            total[:, i : i + stride * rows : stride, j : j + stride * columns : stride] += parts[..., i, j]
    return total[:, padding : padding + height, padding : padding + width].permute(0, 3, 1, 2)
