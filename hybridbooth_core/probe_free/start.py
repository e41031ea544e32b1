"""Subjects without a probe: initial embeddings from CLIP, then a few dozen refinement steps through the frozen model."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..encoders.clip_space import ClipSpace
from ..encoders.features import Reference, square_crops
from ..errors import UserError
from ..files.subject import Subject, SubjectInfo
from ..models.adapter import DiffusionModel, TextModel, class_embedding
from ..models.progress import OnStep
from ..refine.personalize import Personalization
from ..refine.refine import RefineConfig
from .inversion import Inversion, InversionConfig, invert
from .nouns import Retrieval, image_embedding, retrieve
from .refining import REFINING, refine_subject

METHOD = "probe-free"


@dataclass(frozen=True)
class StartConfig:
    """Options of the initial embeddings.

    Attributes:
        num_tokens: n; the last token starts from the noun.
        attributes: whether the other tokens start from retrieved attributes or also from the noun.
        inversion: options of the inversion that follows.
    """

    num_tokens: int = 5
    attributes: bool = False
    inversion: InversionConfig = field(default_factory=InversionConfig)

    def __post_init__(self):
        if not 1 <= self.num_tokens <= 16:
            raise UserError(f"expected 1 to 16 tokens, found {self.num_tokens}; use 5")


@dataclass(frozen=True, eq=False)
class Start:
    """A subject with initial embeddings, and how they were found."""

    subject: Subject
    retrieved: Retrieval
    inversion: Inversion

    def report(self) -> str:
        """A few lines for users: the retrieved words, and the inversion's losses."""
        losses, inversion = self.inversion.losses, "no inversion steps"
        if len(losses) > 1:
            inversion = f"{len(losses) - 1} inversion steps: loss from {losses[0]:.3f} to {losses[-1]:.3f}"
        return f"{self.retrieved.report()}\n{inversion}"


def initial_embeddings(
    model: TextModel,
    space: ClipSpace,
    ref: Reference,
    class_noun: str = "",
    config: StartConfig = StartConfig(),
    on_step: OnStep | None = None,
) -> Start:
    """Initial embeddings of a subject from CLIP's image embedding of the crops around it.

    Args:
        class_noun: empty retrieves it.
        on_step: called after every inversion step; may raise to stop.
    Raises:
        UserError: the model does not know the class noun, or none can be retrieved.
    """
    noun = class_noun.strip() or None
    if noun is not None:
        class_embedding(model, noun)  # an unknown noun fails before the images are encoded
    target = image_embedding(space, square_crops(ref.images, ref.masks, space.size)).to(model.device)
    needed = config.attributes or config.inversion.steps > 0  # retrieving attributes encodes many texts
    retrieved = retrieve(model, space, target, noun, attributes=max(config.num_tokens - 1, 1) if needed else 0)
    vector = class_embedding(model, retrieved.noun)
    attributes = [model.token_embeddings(r.word)[0] for r in retrieved.attributes[: config.num_tokens - 1]] if config.attributes else []
    embeddings = torch.stack([*attributes, *[vector] * (config.num_tokens - len(attributes))])
    inversion = Inversion(embeddings.cpu(), [])
    if retrieved.mean_text is not None:
        inversion = invert(model, space, target, embeddings, retrieved.noun, retrieved.mean_text, config.inversion, on_step)
    info = SubjectInfo(
        class_noun=retrieved.noun,
        family=model.family,
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
    on_step: OnStep | None = None,
) -> tuple[Personalization, Start]:
    """`initial_embeddings` followed by `refine_subject`.

    Args:
        on_step: as in `refine`, called by the refinement.
    Raises:
        UserError: what `initial_embeddings` and `refine_subject` raise.
    """
    start = initial_embeddings(model, space, ref, class_noun, config)
    return refine_subject(model, ref, start.subject, refining, on_step), start
