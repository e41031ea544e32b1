"""Class images, "a photo of a <class>", drawn by the model itself: what prior preservation holds a tuned model to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..models.adapter import DiffusionModel
from ..models.sampling import generate, initial_noise

CHUNK = 16  # images drawn at a time


def class_prompt(class_noun: str) -> str:
    return f"a photo of a {class_noun.strip()}"


class Prior:
    """The class images of one model, as latents on the CPU, drawn when first asked for and shared by all subjects of a class.

    DreamBooth's authors take ancestral samples; here it is DDIM, whose images are functions of their seeds. The published scripts sample
    50 steps at guidance 7.5; the defaults are those of `sampling.generate`.
    """

    def __init__(self, model: DiffusionModel, seed: int = 0, steps: int = 15, guidance: float = 3.0):
        self.model, self.seed, self.steps, self.guidance = model, seed, steps, guidance
        self._kept: dict[str, Tensor] = {}

    @torch.no_grad()
    def latents(self, class_noun: str, count: int, on_step: Callable[[int, int], None] | None = None) -> Tensor:
        """The first `count` class images, [count, C, h, w]; those not drawn yet are drawn.

        Args:
            on_step: called with (images there are, count) after each few; may raise to stop, and nothing drawn is lost.
        """
        key = class_noun.strip()
        kept = self._kept.get(key)
        if kept is None:
            size = self.model.image_size
            kept = self.model.encode_image(torch.zeros(1, size, size, 3))[:0].cpu()  # none yet, but their shape
        while len(kept) < count:
            more = min(CHUNK, count - len(kept))
            noise = initial_noise(len(kept) + more, tuple(kept.shape[1:]), self.seed)[len(kept) :]
            images = generate(self.model, [[class_prompt(key)]] * more, noise, self.steps, self.guidance)
            kept = self._kept[key] = torch.cat([kept, self.model.encode_image(images).cpu()])
            if on_step:
                on_step(len(kept), count)
        return kept[:count]
