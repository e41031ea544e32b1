"""ELITE's global mapper (Wei et al. 2023, section 3.1): five words from five depths of CLIP's vision transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .mapper import WIDTH, Vision, WordMapper

LAYERS = (24, 4, 8, 12, 16)  # the last one carries the subject itself, the others what it is like
TOKEN_WIDTH, HIDDEN = 1024, 1024


class EliteMapper(WordMapper):
    """e_i = MLP_i(first token) + the mean of MLP'_i over the patches, each of a layer of its own.

    The words were trained together with other key and value matrices of the denoiser's cross-attentions. These stay out, so that the model
    is as it was; a few steps of refinement make up for part of it.
    """

    kind = "elite"

    def __init__(self):
        super().__init__()
        self.whole = nn.ModuleList(_mlp() for _ in LAYERS)
        self.patches = nn.ModuleList(_mlp() for _ in LAYERS)

    def forward(self, states: Tensor) -> Tensor:
        """Tokens [B, 5, L, C] of the layers `LAYERS` to words [B, 5, d]."""
        pairs = zip(self.whole, self.patches, states.unbind(1), strict=True)
        return torch.stack([whole(tokens[:, 0]) + patch(tokens[:, 1:]).mean(1) for whole, patch, tokens in pairs], 1)

    def embeddings(self, vision: Vision, images: Tensor) -> Tensor:
        return self(vision.states(images, LAYERS))


def _mlp() -> nn.Sequential:
    """Published as Linear, LayerNorm, LeakyReLU twice, then Linear: their places 0, 1, 3, 4 and 6 are in the names of the weights."""
    wide = [nn.Linear(TOKEN_WIDTH, HIDDEN), nn.LayerNorm(HIDDEN), nn.LeakyReLU()]
    deep = [nn.Linear(HIDDEN, HIDDEN), nn.LayerNorm(HIDDEN), nn.LeakyReLU()]
    return nn.Sequential(*wide, *deep, nn.Linear(HIDDEN, WIDTH))
