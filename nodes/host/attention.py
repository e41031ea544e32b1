"""Attention while gradients flow: PyTorch's own in place of the one the host prefers, and cross-attention overheard."""
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
    """PyTorch's attention, called as the host's are; sage and flash attention, which the host may prefer, know no gradients."""
    return get_attention_function("pytorch")(*args, **kwargs)


def override(preferred: Any, *args: Any, **kwargs: Any) -> Tensor:
    """For the host's option "optimized_attention_override"."""
    return pytorch_attention(*args, **kwargs)


class AttentionCapturer:
    """Computes a denoiser's cross-attentions and keeps their queries and keys, all but the finest of more than two resolutions.

    The maps are computed after the pass, from what was kept: a block under checkpointing runs again on the way back, when nobody listens
    any more.
    """

    def __init__(self, unet: Any, latents: Tensor):
        self.skip = math.prod(latents.shape[2:]) if len(unet.channel_mult) > 2 else 0
        self.captured: list[tuple[Tensor, Tensor, int]] | None = []
        places = {"input": len(unet.input_blocks), "middle": 1, "output": len(unet.output_blocks)}
        blocks = [(side, block) for side, count in places.items() for block in range(count)]
        self.replacements = {"attn2": dict.fromkeys(blocks, self.attend)}  # for the host's option "patches_replace"

    def attend(self, query: Tensor, key: Tensor, value: Tensor, extra: dict[str, Any]) -> Tensor:
        heads = extra["n_heads"]
        if self.captured is not None and query.shape[1] != self.skip:
            self.captured.append((query, key, heads))
        return pytorch_attention(query, key, value, heads, attn_precision=extra["attn_precision"])

    def finish(self, capture: AttentionCapture, scale: float) -> None:
        """Give the maps to `capture` and listen no more; gradients come out of the network times `scale` and go into the maps without."""
        captured, self.captured = self.captured or [], None
        capture.maps += [scale_gradient(head_probabilities(query, key, heads, capture.columns), scale) for query, key, heads in captured]
