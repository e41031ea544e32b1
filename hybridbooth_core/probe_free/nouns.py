"""Zero-shot retrieval of an image's noun and attributes by CLIP (Radford et al. 2021, section 3.1) from word lists."""

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
from .words import ATTRIBUTES, NOUNS

TEMPLATES = ("a photo of a", "a photo of", "a photo of the", "a close-up photo of a")
MAX_OF_A_KIND = 2  # attributes of one kind; the best four could all be shades of one colour


@dataclass(frozen=True)
class Ranked:
    """A word and its cosine with the image, after subtracting the mean text embedding of the list."""

    word: str
    score: float


@dataclass(frozen=True, eq=False)
class Retrieval:
    """The retrieved words of an image. `noun_score` is None if the user chose the noun."""

    noun: str
    noun_score: float | None
    attributes: tuple[Ranked, ...]  # best first
    others: tuple[Ranked, ...]  # the next best nouns
    mean_text: Tensor | None = None  # [P], mean text embedding of all attributes; None if no attributes were requested

    def report(self) -> str:
        """Two lines for users: the noun and the attributes with their scores."""
        score = "" if self.noun_score is None else f" {self.noun_score:.2f}"
        others = ", ".join(f"{r.word} {r.score:.2f}" for r in self.others)
        attributes = ", ".join(f"{r.word} {r.score:.2f}" for r in self.attributes)
        return f"class noun: {self.noun}{score}{f' (next: {others})' if others else ''}\nattributes: {attributes or 'none'}"


def known_texts(model: TextModel, texts: Iterable[str]) -> list[str]:
    """The texts that the model can tokenize, without duplicates: the miniature knows few words, Stable Diffusion 1.5 all."""
    return [text for text in dict.fromkeys(texts) if _tokens(model, text) > 0]


def single_words(model: TextModel, words: Iterable[str]) -> list[str]:
    """The words that are a single token of the model, without duplicates."""
    return [word for word in dict.fromkeys(words) if _tokens(model, word) == 1]


def _tokens(model: TextModel, text: str) -> int:
    try:
        return len(model.token_embeddings(text))
    except UserError:
        return 0


@torch.no_grad()
def image_embedding(space: ClipSpace, crops: Tensor) -> Tensor:
    """The unit image embedding [P] of one subject, averaged over its crops [B, size, size, 3]."""
    return F.normalize(F.normalize(space.images(crops), dim=1).mean(0), dim=0)


@torch.no_grad()
def text_embeddings(model: TextModel, space: ClipSpace, phrases: Sequence[str]) -> Tensor:
    """Unit text embeddings [N, P] of N phrases, averaged over the templates that the model knows (a prompt ensemble)."""
    templates = known_texts(model, TEMPLATES)
    embeds = encode_texts(model, space.project_text, [[template, phrase] for phrase in phrases for template in templates])
    return F.normalize(F.normalize(embeds, dim=1).view(len(phrases), len(templates), -1).mean(1), dim=1)


def retrieve(
    model: TextModel,
    space: ClipSpace,
    target: Tensor,
    noun: str | None = None,
    attributes: int = 4,
    nouns: Sequence[str] = NOUNS,
    attribute_words: Mapping[str, Sequence[str]] = ATTRIBUTES,
) -> Retrieval:
    """Retrieves the noun and the attributes of an image.

    Subtracts the mean of the text embeddings, since all texts of one template are close together. It does not subtract an image mean,
    which would need images of many classes; in the miniature this retrieves as many nouns correctly.

    Args:
        target: the image's unit embedding [P].
        noun: the user's class noun; None retrieves it.
        attributes: how many attributes to retrieve, at most.
    Raises:
        UserError: the model knows no noun of the list, or not the user's noun.
    """
    others: tuple[Ranked, ...] = ()
    score = None
    if noun is None:
        candidates = single_words(model, nouns)
        if not candidates:
            raise UserError(f"{model.name} knows none of the listed nouns; enter a class noun that it knows, such as cat")
        ranking = _ranked(candidates, text_embeddings(model, space, candidates), target)
        noun, score, others = ranking[0].word, ranking[0].score, tuple(ranking[1:4])
    if attributes == 0:
        return Retrieval(noun, score, (), others)
    kinds = {word: kind for kind, words in attribute_words.items() for word in single_words(model, words) if word != noun}
    embeds = text_embeddings(model, space, [f"{word} {noun}" for word in kinds] or [noun])
    chosen: list[Ranked] = []
    for candidate in _ranked(list(kinds), embeds, target) if kinds else ():
        same_kind = sum(kinds[other.word] == kinds[candidate.word] for other in chosen)
        if len(chosen) < attributes and same_kind < MAX_OF_A_KIND and candidate.score > 0:  # 0 is an average word
            chosen.append(candidate)
    return Retrieval(noun, score, tuple(chosen), others, embeds.mean(0))


def _ranked(words: Sequence[str], embeds: Tensor, target: Tensor) -> list[Ranked]:
    """Words sorted by the cosine of their centred text embeddings [N, P] with the image's [P]; ties keep the list's order."""
    centred = F.normalize(embeds - embeds.mean(0), dim=1) if len(words) > 1 else embeds
    scores = centred @ target.to(embeds)
    order = scores.argsort(descending=True, stable=True)
    return [Ranked(words[int(i)], scores[int(i)].item()) for i in order]
