"""A subject without a probe: first words by CLIP, then a few dozen steps on the words through the frozen model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..encoders.clip_space import ClipSpace
from ..encoders.features import Reference, square_crops
from ..errors import UserError
from ..files.subject import Subject, SubjectInfo
from ..models.adapter import DiffusionModel, TextModel, class_embedding
from ..refine.personalize import Personalization
from ..refine.refine import RefineConfig
from .inversion import Inversion, InversionConfig, invert
from .nouns import Retrieved, image_point, retrieve
from .refining import REFINING, refine_subject

METHOD = "probe-free"


@dataclass(frozen=True)
class StartConfig:
    """How to find first words.

    Attributes:
        words: n of them; the noun is the last.
        attributes: whether the others start from retrieved attributes, or from the noun too.
        inversion: how they are then turned towards the image.
    """

    num_tokens: int = 5
    attributes: bool = False
    inversion: InversionConfig = field(default_factory=InversionConfig)

    def __post_init__(self):
        if not 1 <= self.num_tokens <= 16:
            raise UserError(f"expected 1 to 16 words, found {self.num_tokens}; 5 are usual")


@dataclass(frozen=True, eq=False)
class Start:
    """First words of a subject, and how they came about."""

    subject: Subject
    retrieved: Retrieved
    inversion: Inversion

    def report(self) -> str:
        """A few lines for a person."""
        losses, turned = self.inversion.losses, "no inversion steps"
        if len(losses) > 1:
            turned = f"{len(losses) - 1} inversion steps: distance to the image {losses[0]:.3f} to {losses[-1]:.3f}"
        return f"{self.retrieved.report()}\n{turned}"


def initial_embeddings(
    model: TextModel,
    space: ClipSpace,
    ref: Reference,
    class_noun: str = "",
    config: StartConfig = StartConfig(),
    on_step: Callable[[int, int, float], None] | None = None,
) -> Start:
    """Words that say what CLIP sees in the crops around a subject.

    Args:
        class_word: the noun; empty retrieves it.
        on_step: called after every inversion step with (steps done, steps, distance); may raise to stop.
    Raises:
        UserError: a class word that the model does not know, or none that can be retrieved.
    """
    noun = class_noun.strip() or None
    if noun is not None:
        class_embedding(model, noun)  # refused before anything is read
    point = image_point(space, square_crops(ref.images, ref.masks, space.size)).to(model.device)
    looks = config.attributes or config.inversion.steps > 0  # many texts, so only where they are used
    retrieved = retrieve(model, space, point, noun, attributes=max(config.num_tokens - 1, 1) if looks else 0)
    vector = class_embedding(model, retrieved.noun)
    attributes = [model.token_embeddings(r.word)[0] for r in retrieved.attributes[: config.num_tokens - 1]] if config.attributes else []
    embeddings = torch.stack([*attributes, *[vector] * (config.num_tokens - len(attributes))])
    inversion = Inversion(embeddings.cpu(), [])
    if retrieved.mean_text is not None:
        inversion = invert(model, space, point, embeddings, retrieved.noun, retrieved.mean_text, config.inversion, on_step)
    info = SubjectInfo(
        class_noun=retrieved.noun,
        base_model=model.name,
        base_fingerprint=model.fingerprint,
        method=METHOD,
        images=len(ref.images),
    )
    return Start(Subject(inversion.embeddings, info), retrieved, inversion)


def personalize_without_probe(
    model: DiffusionModel,
    space: ClipSpace,
    ref: Reference,
    class_noun: str = "",
    config: StartConfig = StartConfig(),
    refining: RefineConfig = REFINING,
    on_step: Callable[[int, int, float], None] | None = None,
) -> tuple[Personalization, Start]:
    """Both together: first words, then steps on them.

    Args:
        on_step: as in `refine`, of the refining steps.
    Raises:
        UserError: what `initial_embeddings` and `refine_subject` raise.
    """
    start = initial_embeddings(model, space, ref, class_noun, config)
    return refine_subject(model, ref, start.subject, refining, on_step), start
