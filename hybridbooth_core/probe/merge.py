"""The merge of CLIP and DINO features: f = Linear([f_c, MLP(f_d)]) (HybridBooth's feature merge; token-aligned channel concatenation)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureMerge(nn.Module):
    """Merges two encoders' tokens of one image into tokens of the text model's width.

    MLP = LayerNorm, Linear, GELU, Linear, to the width of the CLIP tokens. The half of the last Linear that reads DINO starts at zero,
    so that an untrained probe reads CLIP alone.
    """

    def __init__(self, clip_width: int, dino_width: int, width: int):
        super().__init__()
        self.align = nn.Sequential(
            nn.LayerNorm(dino_width), nn.Linear(dino_width, clip_width), nn.GELU(), nn.Linear(clip_width, clip_width)
        )
        self.project = nn.Linear(2 * clip_width, width)
        with torch.no_grad():
            self.project.weight[:, clip_width:].zero_()

    def forward(self, clip: Tensor, dino: Tensor) -> Tensor:
        """clip [B, L, C_c] and dino [B, L, C_d] to f [B, L, d]; ValueError if the tokens do not line up."""
        if clip.ndim != 3 or dino.ndim != 3 or clip.shape[:2] != dino.shape[:2]:
            raise ValueError(f"expected CLIP and DINO tokens of one batch and length, found {list(clip.shape)} and {list(dino.shape)}")
        return self.project(torch.cat([clip, self.align(dino)], -1))
