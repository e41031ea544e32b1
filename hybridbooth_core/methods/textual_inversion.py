"""Textual Inversion (Gal et al. 2022, arXiv 2208.01618): words learned by the denoising loss alone, the model frozen."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..encoders.features import Reference
from ..errors import UserError
from ..files.subject import MAX_WORDS, Subject, SubjectInfo
from ..models.adapter import DiffusionModel, class_embedding
from .artefact import Trained
from .method import Inputs, method
from .reference_latents import image_latents
from .training import OnStep, TrainingConfig, draw_rows, row_losses, train

MINIATURE = {"miniature": {"steps": 100, "learning_rate": 1e-2}}  # its text encoder is shallower


@dataclass(frozen=True, kw_only=True)
class TextualInversionConfig(TrainingConfig):
    """As published: 3000 steps at 5e-4 with 4 rows a step (diffusers' script; the paper's own: 5000 at 5e-3)."""

    steps: int = 3000
    learning_rate: float = 5e-4
    batch: int = 4
    num_tokens: int = 1

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.num_tokens <= MAX_WORDS:
            raise UserError(f"expected 1 to {MAX_WORDS} words, found {self.num_tokens}")


def textual_inversion(
    model: DiffusionModel, ref: Reference, class_noun: str, config: TextualInversionConfig, on_step: OnStep | None = None
) -> Trained:
    """Learn the words of a subject, each of which starts from the class noun, in the prompt "a photo of a <words>".

    The paper's other templates are left out: with one subject they change little, and a small model does not know their words. So is its
    mirroring of images, which would teach that left is right.

    Raises:
        UserError: no class noun, or a loss that is not finite.
    """
    start = class_embedding(model, class_noun).repeat(config.num_tokens, 1)
    embeddings = start.clone().requires_grad_(True)
    latents = image_latents(model, ref)

    def loss_at(generator: torch.Generator) -> torch.Tensor:
        context = model.encode_prompts([["a photo of a", embeddings]]).context.expand(config.batch, -1, -1)
        return row_losses(model, draw_rows(latents, config.batch, len(model.schedule), generator), context).mean()

    def snapshot(done: int) -> Subject:
        found = embeddings.detach().cpu().clone()
        info = SubjectInfo(
            class_noun=class_noun.strip(),
            family=model.family,
            base_model=model.name,
            base_fingerprint=model.fingerprint,
            method="textual_inversion",
            steps=done,
            step_size=config.learning_rate,
            relative_change=float((found - start.cpu()).norm() / start.cpu().norm()),
            seed=config.seed,
            images=len(ref.images),
        )
        return Subject(found, info)

    return train([embeddings], loss_at, snapshot, config, on_step)


@method("textual_inversion", "one new token by gradient steps alone", TextualInversionConfig, defaults=MINIATURE)
@method(
    "textual_inversion_5", "five new tokens by gradient steps alone", TextualInversionConfig, fixed={"num_tokens": 5}, defaults=MINIATURE
)
def run(inputs: Inputs, config: TextualInversionConfig, on_step: OnStep | None = None) -> Trained:
    """See `textual_inversion`."""
    return textual_inversion(inputs.model, inputs.ref, inputs.class_noun, config, on_step)
