"""Attention with gradients: PyTorch's implementation instead of ComfyUI's preferred one, and attention capture."""
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from typing import Any

from comfy.ldm.modules.attention import get_attention_function
from torch import Tensor

from ...hybridbooth_core.models.adapter import AttentionCapture
from ...hybridbooth_core.models.attention import head_probabilities
from ...hybridbooth_core.models.gradient_scaling import scale_gradient


def pytorch_attention(*args: Any, **kwargs: Any) -> Tensor:
    """PyTorch's attention with ComfyUI's signature. SageAttention and FlashAttention, which ComfyUI may prefer, lack gradients here."""
    return get_attention_function("pytorch")(*args, **kwargs)


def override(preferred: Any, *args: Any, **kwargs: Any) -> Tensor:
    """For ComfyUI's transformer option "optimized_attention_override"."""
    return pytorch_attention(*args, **kwargs)


class AttentionCapturer:
    """Computes a denoiser's cross-attentions and captures their queries and keys, except on the finest of more than two resolutions.

    `finish` computes the maps after the forward pass, since a checkpointed block runs again in the backward pass.
    """

    def __init__(self, unet: Any, latents: Tensor):
        self.skip = math.prod(latents.shape[2:]) if len(unet.channel_mult) > 2 else 0
        self.captured: list[tuple[Tensor, Tensor, int]] | None = []
        places = {"input": len(unet.input_blocks), "middle": 1, "output": len(unet.output_blocks)}
        blocks = [(side, block) for side, count in places.items() for block in range(count)]
        self.replacements = {"attn2": dict.fromkeys(blocks, self.attend)}  # for ComfyUI's transformer option "patches_replace"

    def attend(self, query: Tensor, key: Tensor, value: Tensor, extra: dict[str, Any]) -> Tensor:
        heads = extra["n_heads"]
        if self.captured is not None and query.shape[1] != self.skip:
            self.captured.append((query, key, heads))
        return pytorch_attention(query, key, value, heads, attn_precision=extra["attn_precision"])

    def finish(self, capture: AttentionCapture, scale: float) -> None:
        """Adds the maps to `capture` and stops capturing. Their gradients are multiplied by `scale`, like the network's."""
        captured, self.captured = self.captured or [], None
        capture.maps += [scale_gradient(head_probabilities(query, key, heads, capture.columns), scale) for query, key, heads in captured]
