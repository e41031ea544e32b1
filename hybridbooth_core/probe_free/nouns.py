"""What an image shows, in single words: zero-shot retrieval by CLIP (Radford et al. 2021, section 3.1) from a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoders.clip_space import ClipSpace
from ..errors import UserError
from ..models.adapter import TextModel
from .space import encode_texts
from .words import LOOKS, NOUNS

TEMPLATES = ("a photo of a", "a photo of", "a photo of the", "a close-up photo of a")
MOST_OF_A_KIND = 2  # attributes: the nearest four colours would all be one


@dataclass(frozen=True)
class Ranked:
    """A word and how near it is to the image: a cosine, after the mean of all words in the list has been taken off."""

    word: str
    score: float


@dataclass(frozen=True, eq=False)
class Retrieved:
    """What was found in an image. A noun that was given has no score of its own: it is None."""

    noun: str
    noun_score: float | None
    attributes: tuple[Ranked, ...]  # the nearest first
    others: tuple[Ranked, ...]  # the nouns after it
    mean_text: Tensor | None = None  # [P], of all texts that the attributes were chosen from; None if none was asked for

    def report(self) -> str:
        """Two lines for a person."""
        given = "the class noun is" if self.noun_score is None else f"looks like ({self.noun_score:.2f})"
        others = ", ".join(f"{r.word} {r.score:.2f}" for r in self.others)
        attributes = ", ".join(f"{r.word} {r.score:.2f}" for r in self.attributes)
        return f"{given}: {self.noun}{f' (then {others})' if others else ''}\nattributes: {attributes or 'none'}"


def known(model: TextModel, texts: Iterable[str]) -> list[str]:
    """Those texts whose words the model knows: the miniature knows a few, Stable Diffusion 1.5 knows all."""
    return [text for text in dict.fromkeys(texts) if _tokens(model, text) > 0]


def single_words(model: TextModel, words: Iterable[str]) -> list[str]:
    """Those words that are one token of the model, so that one word embedding stands for each."""
    return [word for word in dict.fromkeys(words) if _tokens(model, word) == 1]


def _tokens(model: TextModel, text: str) -> int:
    try:
        return len(model.token_embeddings(text))
    except UserError:
        return 0


@torch.no_grad()
def image_point(space: ClipSpace, crops: Tensor) -> Tensor:
    """The unit vector [P] of one subject's crops [B, size, size, 3], the mean over its images."""
    return F.normalize(F.normalize(space.images(crops), dim=1).mean(0), dim=0)


@torch.no_grad()
def text_points(model: TextModel, space: ClipSpace, phrases: Sequence[str]) -> Tensor:
    """Unit vectors [N, P] of N phrases, each the mean over the templates that the model knows ("prompt ensemble")."""
    templates = known(model, TEMPLATES)
    points = encode_texts(model, space.project_text, [[template, phrase] for phrase in phrases for template in templates])
    return F.normalize(F.normalize(points, dim=1).view(len(phrases), len(templates), -1).mean(1), dim=1)


def retrieve(
    model: TextModel,
    space: ClipSpace,
    point: Tensor,
    noun: str | None = None,
    attributes: int = 4,
    nouns: Sequence[str] = NOUNS,
    looks: Mapping[str, Sequence[str]] = LOOKS,
) -> Retrieved:
    """The noun and the attributes of an image.

    Of the texts the mean is taken off, since all texts of one form are near one another; of the image none is: its mean would need
    images of many things, and in the miniature, where it can be had, nouns are found as often without it.

    Args:
        point: the image's unit vector [P].
        noun: given by a person; None retrieves it too.
    Raises:
        UserError: the model knows no noun of the list, or does not know the one given.
    """
    others: tuple[Ranked, ...] = ()
    score = None
    if noun is None:
        candidates = single_words(model, nouns)
        if not candidates:
            raise UserError(f"{model.name} knows none of the nouns in the list, so none is found; say what kind of thing the subject is")
        ranking = _ranked(candidates, text_points(model, space, candidates), point)
        noun, score, others = ranking[0].word, ranking[0].score, tuple(ranking[1:4])
    if attributes == 0:
        return Retrieved(noun, score, (), others)
    kinds = {word: kind for kind, words in looks.items() for word in single_words(model, words) if word != noun}
    points = text_points(model, space, [f"{word} {noun}" for word in kinds] or [noun])
    chosen: list[Ranked] = []
    for candidate in _ranked(list(kinds), points, point) if kinds else ():
        alike = sum(kinds[other.word] == kinds[candidate.word] for other in chosen)
        if len(chosen) < attributes and alike < MOST_OF_A_KIND and candidate.score > 0:  # below, the average word fits better
            chosen.append(candidate)
    return Retrieved(noun, score, tuple(chosen), others, points.mean(0))


def _ranked(words: Sequence[str], points: Tensor, point: Tensor) -> list[Ranked]:
    """Words by the cosine of their points [N, P], less their mean, with the image's; ties in the list's order."""
    centred = F.normalize(points - points.mean(0), dim=1) if len(words) > 1 else points
    scores = centred @ point.to(points)
    order = scores.argsort(descending=True, stable=True)
    return [Ranked(words[int(i)], scores[int(i)].item()) for i in order]
