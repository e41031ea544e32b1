"""Textual inversion in CLIP's joint space, without the denoiser (OTI; Baldrati et al. 2023, section 3.1).

Differs from the paper in two ways. The embeddings start from real words and keep their norms, since an embedding with a far larger norm
dominates a prompt. And the mean text embedding is subtracted before the comparison, since all texts of one template are close together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoders.clip_space import ClipSpace
from ..errors import UserError
from ..models.adapter import Prompt, TextModel
from ..models.progress import OnStep, Step
from .nouns import TEMPLATES, known_texts
from .space import encode_texts

CONTEXTS = (
    ("a photo of a", "on snow"),
    ("a photo of a", "with a hat on grass"),
    ("a photo of a", "at night"),
    ("a sketch of a", "on sand"),
)
"""Prompts of the context term, in which the subject should behave like its noun."""


@dataclass(frozen=True)
class InversionConfig:
    """Options of the inversion. The defaults were chosen on the miniature's tune split (benchmarks/probe_free.py).

    Attributes:
        steps: 0 returns the start.
        rate: size of the first step as a fraction of the embeddings' norm; decays to zero along a cosine.
        context: weight of the context term, which keeps the subject behaving like its noun in other prompts.
    """

    steps: int = 60
    rate: float = 0.05
    context: float = 1.0

    def __post_init__(self):
        if not 0 <= self.steps <= 1000:
            raise UserError(f"expected 0 to 1000 inversion steps, found {self.steps}")
        if not 0 < self.rate <= 1 or not 0 <= self.context <= 10:
            raise UserError(
                f"expected a rate above 0 and at most 1, and a context weight from 0 to 10, found {self.rate} and {self.context}"
            )


@dataclass(frozen=True, eq=False)
class Inversion:
    """`embeddings` [n, d] with the norms of the start; `losses[i]` is the loss before step i, `losses[-1]` the final loss."""

    embeddings: Tensor
    losses: list[float]


def invert(
    model: TextModel,
    space: ClipSpace,
    target: Tensor,
    start: Tensor,
    noun: str,
    mean_text: Tensor,
    config: InversionConfig,
    on_step: OnStep | None = None,
) -> Inversion:
    """Rotates token embeddings until their prompts match an image in CLIP's joint space.

    Args:
        target: the image's unit embedding [P].
        start: initial token embeddings [n, d].
        noun: the subject's class noun, for the context term.
        mean_text: mean unit embedding [P] of many texts, subtracted before the cosine.
    """
    templates = [[template] for template in known_texts(model, TEMPLATES)]
    contexts = [pair for pair in CONTEXTS if known_texts(model, [" ".join(pair)])] if config.context else []
    target, mean_text = target.to(model.device), mean_text.to(model.device)
    with torch.no_grad():
        as_noun = _unit(encode_texts(model, space.project_text, [[a, noun, b] for a, b in contexts])) if contexts else None

    def loss_of(embeddings: Tensor) -> Tensor:
        texts = _unit(encode_texts(model, space.project_text, [[*template, embeddings] for template in templates]))
        loss = 1 - (_unit(texts - mean_text) @ target).mean()
        if as_noun is not None:
            prompts: list[Prompt] = [[a, embeddings, b] for a, b in contexts]
            as_subject = _unit(encode_texts(model, space.project_text, prompts))
            loss = loss + config.context * (1 - (as_subject * as_noun).sum(1)).mean()
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
            embeddings = sphere_step(leaf.detach(), gradient, rate)
            if on_step:
                on_step(Step(step + 1, config.steps, losses[-1]))
    with torch.no_grad():
        losses.append(loss_of(embeddings.detach()).item())
    return Inversion(embeddings.detach().cpu(), losses)


def sphere_step(embeddings: Tensor, gradient: Tensor, rate: float) -> Tensor:
    """Embeddings [n, d] after one gradient step that keeps their norms.

    Projects the gradient [n, d] onto the tangent spaces and scales it so that the step's RMS size is `rate` times the norm.
    """
    norms = embeddings.norm(dim=1, keepdim=True)
    directions = embeddings / norms
    tangent = gradient - (gradient * directions).sum(1, keepdim=True) * directions
    size = tangent.norm() / len(embeddings) ** 0.5
    if not bool(torch.isfinite(size)) or float(size) == 0:
        return embeddings
    return norms * F.normalize(directions - rate * tangent / size, dim=1)


def _unit(embeds: Tensor) -> Tensor:
    return F.normalize(embeds, dim=-1)
