"""The residual of the refinement: W' = W + lambda D on frozen linear layers, with D = 0 at the start (HybridBooth's Delta W).

Adam's step does not see the scale of a gradient, so W' moves by lambda x lr a step whatever lambda is: the *effective step* is the one
knob. Adam's epsilon breaks this a little; scaling it by lambda restores it exactly (see `residual_optimizer`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """lambda D x for one linear layer; D is float32 [out, in], zero at the start, whatever the layer's own precision is."""

    def __init__(self, layer: nn.Linear, scale: float):
        super().__init__()
        self.scale = scale
        self.delta = nn.Parameter(torch.zeros(layer.out_features, layer.in_features, device=layer.weight.device))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """y + lambda D x in the precision of y: two products, never a sum of weights, which half precision would round away."""
        return y + (self.scale * nn.functional.linear(x.float(), self.delta)).to(y.dtype)


@contextmanager
def residuals_on(layers: Iterable[nn.Linear], scale: float) -> Iterator[list[Residual]]:
    """While open, every layer's output carries its residual; the layers themselves are never written to.

    Yields one `Residual` per layer. Afterwards the layers are as they were, even if the block raised.
    """
    if scale <= 0:
        raise ValueError(f"expected lambda above 0, found {scale}")
    residuals, hooks = [], []
    try:
        for layer in layers:
            residual = Residual(layer, scale)
            residuals.append(residual)
            hooks.append(layer.register_forward_hook(lambda module, args, output, residual=residual: residual(args[0], output)))
        yield residuals
    finally:
        for hook in hooks:
            hook.remove()


def residual_optimizer(residuals: Iterable[Residual], step_size: float, weight_decay: float = 1e-2) -> torch.optim.AdamW:
    """AdamW whose steps on W' = W + lambda D do not depend on lambda.

    The gradient of D is lambda times that of W', so lr = effective_step / lambda and epsilon = 1e-8 lambda give the same W' for every
    lambda; decoupled weight decay shrinks D by lr x decay, so decay lambda keeps that equal too.
    """
    residuals = list(residuals)
    scale = residuals[0].scale
    return torch.optim.AdamW(
        [residual.delta for residual in residuals],
        lr=step_size / scale,
        eps=1e-8 * scale,
        weight_decay=weight_decay * scale,
    )
