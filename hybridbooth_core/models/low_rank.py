"""LoRA on the linear layers of a denoiser's attentions and of a CLIP text encoder (Hu et al. 2021, arXiv 2106.09685), by kohya's names.

W' x = W x + s (alpha / r) B A x with A [r, in], B [out, r].
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
DENOISER, TEXT = "lora_unet_", "lora_te_"
_TEXT_LAYER = re.compile(r"(?:.*\.)?(encoder\.layers\.\d+\.(?:self_attn\.(?:q_proj|k_proj|v_proj|out_proj)|mlp\.fc[12]))")


@dataclass(frozen=True, eq=False)
class LowRank:
    """The LoRA of one linear layer: `down` A [r, in], `up` B [out, r], `alpha`; or one for each of K subjects, [K, r, in] and [K, out, r].

    With one for each subject, row i of a batch has that of subject i modulo K, so a batch holds every subject equally often.
    """

    down: Tensor
    up: Tensor
    alpha: float

    def __call__(self, x: Tensor, y: Tensor, strength: float) -> Tensor:
        """y + s (alpha / r) B A x for the layer's input x and output y, in the dtype of y.

        Raises:
            ValueError: the rows of x are no multiple of the subjects.
        """
        scale = strength * self.alpha / self.down.shape[-2]
        if self.down.ndim == 2:
            product = nn.functional.linear(nn.functional.linear(x.to(self.down), self.down), self.up)
        else:
            if len(x) % len(self.down):
                raise ValueError(f"expected a multiple of {len(self.down)} rows, one for each subject, found {len(x)}")
            times = len(x) // len(self.down)
            down, up = (part.transpose(1, 2).repeat(times, 1, 1) for part in (self.down, self.up))
            product = torch.bmm(torch.bmm(x.to(down).flatten(1, -2), down), up).view_as(y)
        return y + (scale * product).to(y.dtype)


def attention_layers(denoiser: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers that diffusers' DreamBooth script gives a LoRA: q, k, v and out of every self- and cross-attention."""
    ends = tuple(f".{attention}.{projection}" for attention in ("attn1", "attn2") for projection in PROJECTIONS)
    return {kohya_name(name): layer for name, layer in _linear_layers(denoiser) if name.endswith(ends)}


def text_layers(text_encoder: nn.Module, mlp: bool = True) -> dict[str, nn.Linear]:
    """The linear layers of a CLIP text encoder that kohya's trainer gives a LoRA: q, k, v, out and, with `mlp`, both of every MLP."""
    found = {}
    for name, layer in _linear_layers(text_encoder):
        match = _TEXT_LAYER.fullmatch(name)
        if match and (mlp or ".mlp." not in name):
            found[TEXT + f"text_model.{match[1]}".replace(".", "_")] = layer  # transformers 5 has no part text_model, the names have
    return found


def _linear_layers(network: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    return ((name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear))


def kohya_name(layer: str) -> str:
    """The name of a denoiser's layer in kohya's LoRA files, which ComfyUI, AUTOMATIC1111 and diffusers read."""
    return DENOISER + layer.replace(".", "_")


def new_low_rank(layer: nn.Linear, rank: int, generator: torch.Generator, device: torch.device | None = None) -> LowRank:
    """A LoRA that starts at zero: A normal with standard deviation 1 / r, B zero, alpha = r (peft's "gaussian")."""
    down = torch.randn(rank, layer.in_features, generator=generator) / rank
    device = device or layer.weight.device  # a host may keep the weight elsewhere than where it computes
    return LowRank(down.to(device).requires_grad_(True), torch.zeros(layer.out_features, rank, device=device, requires_grad=True), rank)


@contextmanager
def low_rank_on(layers: Mapping[str, nn.Module], residuals: Mapping[str, LowRank], strength: float = 1.0) -> Iterator[None]:
    """While open, adds each residual to the output of the layer of its name. The layers' weights do not change.

    A backward pass through checkpointed blocks computes them again, so it must end before this closes.
    """
    hooks = []
    try:
        for name, residual in residuals.items():
            add = lambda module, args, output, add=residual: add(args[0], output, strength)  # noqa: E731
            hooks.append(layers[name].register_forward_hook(add))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def concatenated(first: Mapping[str, LowRank], second: Mapping[str, LowRank]) -> dict[str, LowRank]:
    """The exact sum of two LoRAs, whose ranks add up: up = [up_1 | up_2], down = [down_1 ; down_2], each scale folded into its up."""
    found = {}
    for name in dict.fromkeys([*first, *second]):
        parts = [residuals[name] for residuals in (first, second) if name in residuals]
        down = torch.cat([part.down for part in parts])
        up = torch.cat([part.up * (part.alpha / len(part.down)) for part in parts], 1)
        found[name] = LowRank(down, up, float(len(down)))
    return found
