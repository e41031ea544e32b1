"""Mappers to one pseudo-word: Pic2Word (Saito et al. 2023), SEARLE (Baldrati et al. 2023), LinCIR (Gu et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from .mapper import WIDTH, Mapper, Vision

ACTIVATIONS = {"phi": F.gelu, "pic2word": F.relu}
CLIP_WIDTH = 768  # P of CLIP ViT-L/14's joint space


class SingleWordMapper(Mapper):
    """An MLP from CLIP's unnormalised image embedding to one token embedding. It captures the class and few details."""

    needs_noun = True

    def __init__(self, kind: str, sizes: Sequence[int]):
        """`kind`: "phi" (GELU; SEARLE and LinCIR) or "pic2word" (ReLU). `sizes`: layer widths from P to d, such as 768, 3072, 768."""
        super().__init__()
        if kind not in ACTIVATIONS or len(sizes) < 2 or (sizes[0], sizes[-1]) != (CLIP_WIDTH, WIDTH):
            raise ValueError(f"expected phi or pic2word from {CLIP_WIDTH} to {WIDTH} dimensions, found {kind!r} and {list(sizes)}")
        self.kind, self.activation = kind, ACTIVATIONS[kind]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Image embeddings [B, P] to token embeddings [B, 1, d]."""
        x = image_embeds
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)[:, None]

    def embeddings(self, vision: Vision, images: Tensor) -> Tensor:
        return self(vision.embed(images))
