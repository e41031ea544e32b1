"""Maps from CLIP's shared space to one word: Pic2Word (Saito et al. 2023), SEARLE (Baldrati et al. 2023), LinCIR (Gu et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from .mapper import WIDTH, Vision, WordMapper

ACTIVATIONS = {"phi": F.gelu, "pic2word": F.relu}
POINT_WIDTH = 768  # P of CLIP ViT-L/14


class SingleWordMapper(WordMapper):
    """An MLP from an image's place in CLIP's space, at its own length, to one word that tells the kind of thing and little more."""

    needs_noun = True

    def __init__(self, kind: str, sizes: Sequence[int]):
        """`kind`: "phi" (GELU; SEARLE's and LinCIR's) or "pic2word" (ReLU). `sizes`: widths from P to d, such as 768, 3072, 768."""
        super().__init__()
        if kind not in ACTIVATIONS or len(sizes) < 2 or (sizes[0], sizes[-1]) != (POINT_WIDTH, WIDTH):
            raise ValueError(f"expected phi or pic2word, {POINT_WIDTH} numbers in and {WIDTH} out, found {kind!r} and {list(sizes)}")
        self.kind, self.activation = kind, ACTIVATIONS[kind]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))

    def forward(self, points: Tensor) -> Tensor:
        """Places [B, P] to words [B, 1, d]."""
        for layer in self.layers[:-1]:
            points = self.activation(layer(points))
        return self.layers[-1](points)[:, None]

    def embeddings(self, vision: Vision, images: Tensor) -> Tensor:
        return self(vision.embed(images))
