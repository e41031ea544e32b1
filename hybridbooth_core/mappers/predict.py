"""A subject predicted by a mapper."""

from __future__ import annotations

import torch

from ..encoders.features import Reference, square_crops
from ..errors import UserError
from ..files.subject import Subject, SubjectInfo
from ..models.adapter import TextModel
from .mapper import Mapper, Vision


@torch.no_grad()
def mapper_subject(mapper: Mapper, vision: Vision, model: TextModel, ref: Reference, class_noun: str = "") -> Subject:
    """Predicts a subject from the crops around it, averaged over its images.

    If the mapper needs a noun, the class noun's token embeddings follow its own.

    Args:
        class_noun: may be empty; the subject then works at strength 1 only.
    Raises:
        UserError: the model is not a Stable Diffusion 1.5 model.
    """
    embeddings = mapper.embeddings(vision, square_crops(ref.images, ref.masks, vision.size)).mean(0).float().cpu()
    if embeddings.shape[1] != model.embedding_width:
        raise UserError(
            f"{mapper.source or 'this mapper'} predicts embeddings of width {embeddings.shape[1]}, but {model.name} reads width "
            f"{model.embedding_width}; use it with a Stable Diffusion 1.5 checkpoint"
        )
    noun = class_noun.strip()
    if noun and mapper.needs_noun:
        embeddings = torch.cat([embeddings, model.token_embeddings(noun).cpu()])
    info = SubjectInfo(
        class_noun=noun,
        family=model.family,
        base_model=model.name,
        base_fingerprint=model.fingerprint,
        probe=mapper.source,
        method=f"mapper {mapper.kind}",
        images=len(ref.images),
        licence=mapper.licence,
    )
    return Subject(embeddings, info)
