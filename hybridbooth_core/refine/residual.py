"""Residuals W' = W + lambda D on frozen linear layers, with D = 0 at the start (HybridBooth's Delta W).

Adam's steps do not depend on the gradient's scale, so W' changes by lambda x lr per step: this *step size* is the only parameter. Adam's
epsilon breaks the invariance slightly; scaling it by lambda restores it exactly (see `residual_optimizer`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """The residual lambda D x of one linear layer. D [out, in] is float32 for any dtype of the layer, and starts at zero."""

    def __init__(self, layer: nn.Linear, scale: float):
        super().__init__()
        self.scale = scale
        self.delta = nn.Parameter(torch.zeros(layer.out_features, layer.in_features, device=layer.weight.device))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """y + lambda D x in the dtype of y. Adding D to half-precision weights instead would round it away."""
        return y + (self.scale * nn.functional.linear(x.float(), self.delta)).to(y.dtype)


@contextmanager
def residuals_on(layers: Iterable[nn.Linear], scale: float) -> Iterator[list[Residual]]:
    """While open, adds a residual to every layer's output; yields the residuals, one per layer.

    The layers' weights do not change, and closing removes the residuals.
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

    The gradient of D is lambda times that of W', so lr = step_size / lambda and epsilon = 1e-8 lambda give the same W' for every lambda.
    Decoupled weight decay shrinks D by lr x decay, so scaling the decay by lambda keeps it equal too.
    """
    residuals = list(residuals)
    scale = residuals[0].scale
    return torch.optim.AdamW(
        [residual.delta for residual in residuals],
        lr=step_size / scale,
        eps=1e-8 * scale,
        weight_decay=weight_decay * scale,
    )
