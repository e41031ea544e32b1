"""Which calls of a network are computed how. What a model's own code calls is overheard, so no model is changed and none is known here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .attention import TiledAttention
from .products import Convolution, GatheredConvolution, Linear, onednn_is_faster

WIDE = 256  # features of a layer, in and out; below, a call costs more than its arithmetic
FEW = 256  # output cells up to which a convolution is gathered
MANY = 1 << 20  # queries x keys from which attention is tiled


class FastProducts(TorchFunctionMode):
    """While open, this thread's wide float32 layers on the CPU take the ways of `products` and `attention`, their backward passes too.

    Everything else is computed as ever. Under activation checkpointing it must be open when a block is computed again.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _ROUTES.get(func, func)(*args, **(kwargs or {}))


def _plain(*tensors: Tensor | None) -> bool:
    """Float32 on the CPU, and computed as such: no subclasses, which may compute otherwise than they look (fake ones go the same ways)."""
    some = [tensor for tensor in tensors if tensor is not None]
    right = all(type(t) in (Tensor, nn.Parameter, FakeTensor) and t.dtype == torch.float32 and t.device.type == "cpu" for t in some)
    return right and not torch.is_autocast_enabled("cpu")


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if min(weight.shape) < WIDE or not _plain(x, weight, bias):
        return F.linear(x, weight, bias)
    return Linear.apply(x, weight, bias)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1, groups: int = 1) -> Tensor:
    side, step, margin = _both_ways(weight.shape[2:]), _both_ways(stride), _both_ways(padding)
    if side is None or step is None or margin is None or _both_ways(dilation) != 1 or groups != 1 or x.ndim != 4:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if min(weight.shape[:2]) < WIDE or not _plain(x, weight, bias):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if (side, step, margin) == (1, 1, 0):
        return Linear.apply(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    kind = GatheredConvolution if x.shape[2] * x.shape[3] <= FEW * step**2 else Convolution
    return kind.apply(x, weight, bias, step, margin)


def _both_ways(setting: Any) -> int | None:
    """A setting that is the same for rows and columns; None of any other."""
    pair = (setting, setting) if isinstance(setting, int) else tuple(setting)
    return pair[0] if len(pair) == 2 and pair[0] == pair[1] and isinstance(pair[0], int) else None


def _attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask=None, dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, **more
) -> Tensor:
    simple = attn_mask is None and dropout_p == 0 and not is_causal and not more.get("enable_gqa") and q.ndim == 4
    tiled = simple and q.shape[2] * k.shape[2] >= MANY and type(q) is not FakeTensor  # of which one operation says as much as many tiles
    if not tiled or not onednn_is_faster() or not _plain(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, attn_mask, dropout_p, is_causal, scale=scale, **more)
    return TiledAttention.apply(q, k, v, q.shape[-1] ** -0.5 if scale is None else scale)


_ROUTES = {F.linear: _linear, F.conv2d: _convolution, F.scaled_dot_product_attention: _attention}
