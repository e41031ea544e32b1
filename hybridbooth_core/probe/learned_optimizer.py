"""A learned optimizer that maps the gradient of one photo's denoising loss to an update of a subject's token embeddings.

That gradient mixes the subject with everything else in the photo: following it fits the photo and, from a good initial prediction, loses
the subject. The learned optimizer is trained on many subjects to extract what also helps in *other* images of the same subject. See
Andrychowicz et al. 2016 (arXiv 1606.04474); with an amortised initial prediction it is iterative amortised inference (Marino et al. 2018,
arXiv 1807.09356). An extension: HybridBooth's authors use plain gradient steps.

Axes: B subjects, n tokens, d embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LENGTH = 0.1  # scale of an output with unit standard deviation, relative to an embedding's entries; keeps early steps short


class LearnedOptimizer(nn.Module):
    """Predicts an update of token embeddings from the embeddings and their gradient. Untrained, the update is zero.

    It reads only the gradient's direction, since its norm depends on the model and the sampled noise levels.
    """

    def __init__(self, num_tokens: int, width: int, hidden: int):
        super().__init__()
        size = num_tokens * width
        self.read = nn.Sequential(nn.Linear(2 * size, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.out = nn.Linear(hidden, size)
        self.direct = nn.Linear(size, size, bias=False)  # a linear preconditioner of the gradient
        for layer in (self.out.weight, self.out.bias, self.direct.weight):
            nn.init.zeros_(layer)

    def forward(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        """The update [B, n, d] for embeddings [B, n, d] (entries of about unit standard deviation) and the loss gradient [B, n, d].

        Raises:
            ValueError: the shapes differ.
        """
        if embeddings.ndim != 3 or embeddings.shape != gradient.shape:
            raise ValueError(
                f"expected embeddings and gradient [B, n, d] of one shape, found {list(embeddings.shape)} and {list(gradient.shape)}"
            )
        flat = gradient.flatten(1)
        direction = flat / flat.pow(2).mean(1, keepdim=True).sqrt().clamp_min(1e-20)
        change = self.out(self.read(torch.cat([embeddings.flatten(1), direction], 1))) + self.direct(direction)
        return LENGTH * change.view_as(embeddings)
