"""HybridBooth's merge of CLIP and DINO features, concatenated token by token: f = Linear([f_c, MLP(f_d)])."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureMerge(nn.Module):
    """Merges CLIP and DINO tokens of one image into tokens of the text encoder's width.

    The MLP is LayerNorm, Linear, GELU, Linear, to the width of the CLIP tokens. The DINO half of the final Linear is zero at
    initialisation, so an untrained probe uses CLIP alone.
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
        """clip [B, L, C_c] and dino [B, L, C_d] to f [B, L, d]; ValueError if batch or number of tokens differ."""
        if clip.ndim != 3 or dino.ndim != 3 or clip.shape[:2] != dino.shape[:2]:
            raise ValueError(f"expected CLIP and DINO tokens [B, L, C] with equal B and L, found {list(clip.shape)} and {list(dino.shape)}")
        return self.project(torch.cat([clip, self.align(dino)], -1))
