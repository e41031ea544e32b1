"""Learned steps: what a gradient through the frozen model should do to a subject's words.

The gradient of one photo's denoising loss mixes the subject with everything else in the photo, so following it fits the photo and, from
a good guess on, loses the subject. A stepper is trained on many subjects to read from that gradient only what helps in *other* images of
the same subject. This is a learned optimiser (Andrychowicz et al. 2016, arXiv 1606.04474) on top of an amortised guess, that is,
iterative amortised inference (Marino et al. 2018, arXiv 1807.09356); it is ours, HybridBooth's authors take plain gradient steps.

Axes: B subjects, n words, d their width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LENGTH = 0.1  # of an output of unit spread, as a share of a word's entries: steps start short


class LearnedOptimizer(nn.Module):
    """Words and a gradient to a change of the words. Untrained it changes nothing.

    Only the gradient's direction is read: its length depends on the model and on the noise levels looked at.
    """

    def __init__(self, num_tokens: int, width: int, hidden: int):
        super().__init__()
        size = num_tokens * width
        self.read = nn.Sequential(nn.Linear(2 * size, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.out = nn.Linear(hidden, size)
        self.direct = nn.Linear(size, size, bias=False)  # a preconditioner: what a step needs at the least
        for layer in (self.out.weight, self.out.bias, self.direct.weight):
            nn.init.zeros_(layer)

    def forward(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        """The change [B, n, d] of words [B, n, d], whose entries have about unit spread, from the gradient [B, n, d] of their loss.

        Raises:
            ValueError: the two have different shapes.
        """
        if embeddings.ndim != 3 or embeddings.shape != gradient.shape:
            raise ValueError(
                f"expected words and gradient [B, n, d] of one shape, found {list(embeddings.shape)} and {list(gradient.shape)}"
            )
        flat = gradient.flatten(1)
        direction = flat / flat.pow(2).mean(1, keepdim=True).sqrt().clamp_min(1e-20)
        change = self.out(self.read(torch.cat([embeddings.flatten(1), direction], 1))) + self.direct(direction)
        return LENGTH * change.view_as(embeddings)
