"""Prompt templates for images without captions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data.items import SUBJECT
from .config import Data

NEUTRAL = (
    "a photo of",
    "a photo of a",
    "a good photo of",
    "a close-up photo of",
    "a cropped photo of",
    "a bright photo of",
    "an image of",
    "a rendition of",
)
COLOURS = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "grey": (0.5, 0.5, 0.5),
    "red": (0.8, 0.1, 0.1),
    "green": (0.1, 0.6, 0.2),
    "blue": (0.1, 0.2, 0.8),
    "yellow": (0.95, 0.85, 0.1),
    "orange": (0.95, 0.5, 0.1),
}
EMBEDDINGS_ONLY = ("", "")


PLAIN = NEUTRAL[:2]
"""For drawings: a base may know no other words than those that it was asked to draw by."""


def neutral(generator: torch.Generator, templates: Sequence[str] = NEUTRAL) -> tuple[str, str]:
    """A random template that fits any photo."""
    return templates[int(torch.randint(len(templates), (), generator=generator))], ""


def photo_prompt(
    data: Data, generator: torch.Generator, image: Tensor | None, mask: Tensor | None, prompt: str | None = None
) -> tuple[tuple[str, str], Tensor | None]:
    """A random template and the target image that it describes.

    Photos have no captions, so a template can only describe a background that is known: it names a plain colour, which is painted behind
    the subject. Where a prompt is known (the base drew the image) it is the template. Without either the template is neutral.

    Args:
        image: [S, S, 3]. mask: [S, S]. prompt: of the image, with `<subject>` in the subject's place.
    """
    alone, plain = (torch.rand(2, generator=generator) < torch.tensor([data.condition_drop, data.neutral])).tolist()
    before, after = neutral(generator, NEUTRAL if prompt is None else PLAIN)
    if prompt is not None and SUBJECT in prompt and not plain and not alone:
        before, after = (text.strip() for text in prompt.split(SUBJECT, 1))
    elif image is not None and mask is not None and not plain and not alone:
        name = list(COLOURS)[int(torch.randint(len(COLOURS), (), generator=generator))]
        image = image * mask[..., None] + torch.tensor(COLOURS[name]) * (1 - mask[..., None])
        after = f"on a {name} background"
    return (EMBEDDINGS_ONLY if alone else (before, after)), image
