"""ELITE's global mapper (Wei et al. 2023, section 3.1): five token embeddings from five layers of CLIP's vision transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .mapper import WIDTH, Mapper, Vision

LAYERS = (24, 4, 8, 12, 16)  # the deepest layer predicts the primary token, the others auxiliary ones
TOKEN_WIDTH, HIDDEN = 1024, 1024


class EliteMapper(Mapper):
    """e_i = MLP_i(class token) + mean over patches of MLP'_i(patch token), from one layer each.

    ELITE trains them together with new key and value matrices of the denoiser's cross-attentions. This pack leaves those out, because it
    never changes the model; a few refinement steps compensate in part.
    """

    kind = "elite"

    def __init__(self):
        super().__init__()
        self.whole = nn.ModuleList(_mlp() for _ in LAYERS)
        self.patches = nn.ModuleList(_mlp() for _ in LAYERS)

    def forward(self, states: Tensor) -> Tensor:
        """Hidden states [B, 5, L, C] of the layers `LAYERS` to token embeddings [B, 5, d]."""
        pairs = zip(self.whole, self.patches, states.unbind(1), strict=True)
        return torch.stack([whole(tokens[:, 0]) + patch(tokens[:, 1:]).mean(1) for whole, patch, tokens in pairs], 1)

    def embeddings(self, vision: Vision, images: Tensor) -> Tensor:
        return self(vision.states(images, LAYERS))


def _mlp() -> nn.Sequential:
    """Linear, LayerNorm, LeakyReLU, twice, then Linear; the published weights are named by the indices 0, 1, 3, 4 and 6."""
    wide = [nn.Linear(TOKEN_WIDTH, HIDDEN), nn.LayerNorm(HIDDEN), nn.LeakyReLU()]
    deep = [nn.Linear(HIDDEN, HIDDEN), nn.LayerNorm(HIDDEN), nn.LeakyReLU()]
    return nn.Sequential(*wide, *deep, nn.Linear(HIDDEN, WIDTH))
