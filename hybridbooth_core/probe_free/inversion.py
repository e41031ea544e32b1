"""Words that CLIP reads as an image: textual inversion in CLIP's space alone, without the denoiser (OTI; Baldrati et al. 2023, 3.1).

Differs from the paper in that words start from real words and keep their lengths, since a word far longer than real ones drowns the rest
of a prompt; and in that the texts' mean is taken off, so that what is compared is how a text differs from others of its form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoders.clip_space import ClipSpace
from ..errors import UserError
from ..models.adapter import Prompt, TextModel
from .nouns import TEMPLATES, known
from .space import encode_texts

CONTEXTS = (
    ("a photo of a", "on snow"),
    ("a photo of a", "with a hat on grass"),
    ("a photo of a", "at night"),
    ("a sketch of a", "on sand"),
)
"""Sentences in which the words should act as their noun does; what they say is not to be learnt from one image."""


@dataclass(frozen=True)
class InversionConfig:
    """How to invert.

    Attributes:
        steps: 0 keeps the start.
        rate: the first step's length, as a share of a word's length; later ones fall to zero along a cosine.
        context: weight of what keeps the words acting as their noun in other sentences.

    Chosen on tune creatures by benchmarks/probe_free.py.
    """

    steps: int = 60
    rate: float = 0.05
    context: float = 1.0

    def __post_init__(self):
        if not 0 <= self.steps <= 1000:
            raise UserError(f"expected 0 to 1000 inversion steps, found {self.steps}")
        if not 0 < self.rate <= 1 or not 0 <= self.context <= 10:
            raise UserError(
                f"expected a rate above 0 and at most 1 and a context weight from 0 to 10, found {self.rate} and {self.context}"
            )


@dataclass(frozen=True, eq=False)
class Inversion:
    """`words` [n, d], as long as those it started from; `losses[i]` before step i, and the last one after all."""

    embeddings: Tensor
    losses: list[float]


def invert(
    model: TextModel,
    space: ClipSpace,
    point: Tensor,
    start: Tensor,
    noun: str,
    mean_text: Tensor,
    config: InversionConfig,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Inversion:
    """Turn words until their texts point where the image does.

    Args:
        point: the image's unit vector [P].
        start: words [n, d]. noun: what they stand for, in the context term.
        mean_text: [P], the mean of unit vectors of many texts, taken off before cosines.
    """
    templates = [[template] for template in known(model, TEMPLATES)]
    contexts = [pair for pair in CONTEXTS if known(model, [" ".join(pair)])] if config.context else []
    point, mean_text = point.to(model.device), mean_text.to(model.device)
    with torch.no_grad():
        as_noun = _unit(encode_texts(model, space.project_text, [[a, noun, b] for a, b in contexts])) if contexts else None

    def loss_of(embeddings: Tensor) -> Tensor:
        texts = _unit(encode_texts(model, space.project_text, [[*template, embeddings] for template in templates]))
        loss = 1 - (_unit(texts - mean_text) @ point).mean()
        if as_noun is not None:
            said: list[Prompt] = [[a, embeddings, b] for a, b in contexts]
            inside = _unit(encode_texts(model, space.project_text, said))
            loss = loss + config.context * (1 - (inside * as_noun).sum(1)).mean()
        return loss

    embeddings = start.detach().clone().float().to(model.device)
    losses: list[float] = []
    with torch.enable_grad():
        for step in range(config.steps):
            leaf = embeddings.requires_grad_(True)
            loss = loss_of(leaf)
            (gradient,) = torch.autograd.grad(loss, leaf)
            losses.append(loss.item())
            rate = config.rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
            embeddings = turned(leaf.detach(), gradient, rate)
            if on_step:
                on_step(step + 1, config.steps, losses[-1])
    with torch.no_grad():
        losses.append(loss_of(embeddings.detach()).item())
    return Inversion(embeddings.detach().cpu(), losses)


def turned(embeddings: Tensor, gradient: Tensor, rate: float) -> Tensor:
    """Words [n, d] after one step down the gradient [n, d] on the spheres of their lengths.

    What points along a word is taken off its gradient; the rest is as long as `rate` times the words, on average over them.
    """
    lengths = embeddings.norm(dim=1, keepdim=True)
    directions = embeddings / lengths
    across = gradient - (gradient * directions).sum(1, keepdim=True) * directions
    size = across.norm() / len(embeddings) ** 0.5
    if not bool(torch.isfinite(size)) or float(size) == 0:
        return embeddings
    return lengths * F.normalize(directions - rate * across / size, dim=1)


def _unit(points: Tensor) -> Tensor:
    return F.normalize(points, dim=-1)
