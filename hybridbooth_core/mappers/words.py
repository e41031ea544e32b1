"""A subject from a public word mapper."""

from __future__ import annotations

import torch

from ..encoders.features import Reference, square_crops
from ..errors import UserError
from ..files.subject import Subject, SubjectInfo
from ..models.adapter import TextModel
from .mapper import Vision, WordMapper


@torch.no_grad()
def mapper_subject(mapper: WordMapper, vision: Vision, model: TextModel, ref: Reference, class_noun: str = "") -> Subject:
    """The words that a mapper reads in the crops around a subject, the mean over its images.

    With a class noun, its tokens stand after the word of a mapper that writes one word only: that word names few details.

    Args:
        class_word: may be empty; then the subject has no strength but 1.
    Raises:
        UserError: the model's words are not those of Stable Diffusion 1.5.
    """
    embeddings = mapper.embeddings(vision, square_crops(ref.images, ref.masks, vision.size)).mean(0).float().cpu()
    if embeddings.shape[1] != model.embedding_width:
        raise UserError(
            f"{mapper.source or 'this mapper'} writes words of width {embeddings.shape[1]}, but {model.name} reads words of width "
            f"{model.embedding_width}; use it with a Stable Diffusion 1.5 checkpoint"
        )
    noun = class_noun.strip()
    if noun and mapper.needs_noun:
        embeddings = torch.cat([embeddings, model.token_embeddings(noun).cpu()])
    info = SubjectInfo(
        class_noun=noun,
        base_model=model.name,
        base_fingerprint=model.fingerprint,
        probe=mapper.source,
        method=f"mapper {mapper.kind}",
        images=len(ref.images),
        licence=mapper.licence,
    )
    return Subject(embeddings, info)
