"""LoRA on the attention projections of a denoiser (Hu et al. 2021, arXiv 2106.09685), with names in kohya's layout.

W' x = W x + s (alpha / r) B A x with A [r, in], B [out, r].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True, eq=False)
class LowRank:
    """The LoRA of one linear layer: `down` A [r, in], `up` B [out, r], `alpha`."""

    down: Tensor
    up: Tensor
    alpha: float

    def __call__(self, x: Tensor, y: Tensor, strength: float) -> Tensor:
        """y + s (alpha / r) B A x for the layer's input x and output y, in the dtype of y."""
        scale = strength * self.alpha / len(self.down)
        product = nn.functional.linear(nn.functional.linear(x.to(self.down), self.down), self.up)
        return y + (scale * product).to(y.dtype)


def attention_projections(denoiser: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers that diffusers' DreamBooth script gives a LoRA: q, k, v and out of every self- and cross-attention, by name."""
    ends = tuple(f".{attention}.{projection}" for attention in ("attn1", "attn2") for projection in PROJECTIONS)
    return {name: layer for name, layer in denoiser.named_modules() if name.endswith(ends) and isinstance(layer, nn.Linear)}


def kohya_name(layer: str) -> str:
    """A layer's name in kohya's LoRA files, which ComfyUI, AUTOMATIC1111 and diffusers read."""
    return "lora_unet_" + layer.replace(".", "_")


def new_low_rank(layer: nn.Linear, rank: int, generator: torch.Generator, device: torch.device | None = None) -> LowRank:
    """A LoRA that starts at zero: A normal with standard deviation 1 / r, B zero, alpha = r (peft's "gaussian")."""
    down = torch.randn(rank, layer.in_features, generator=generator) / rank
    device = device or layer.weight.device  # a host may keep the weight elsewhere than where it computes
    return LowRank(down.to(device).requires_grad_(True), torch.zeros(layer.out_features, rank, device=device, requires_grad=True), rank)


@contextmanager
def low_rank_on(denoiser: nn.Module, residuals: Mapping[str, LowRank], strength: float = 1.0) -> Iterator[None]:
    """While open, adds each residual to its layer's output. The layers' weights do not change."""
    hooks = []
    try:
        for name, residual in residuals.items():
            layer = denoiser.get_submodule(name)
            hooks.append(layer.register_forward_hook(lambda module, args, output, add=residual: add(args[0], output, strength)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
