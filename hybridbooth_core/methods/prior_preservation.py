"""Prior preservation (Ruiz et al. 2023, eq. 2): the subject's denoising loss plus that of images of its class, drawn by the base model.

Axes: B rows of the subject in a step (and as many of its class), T tokens, d width, C h w latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..encoders.features import Reference
from ..errors import UserError
from ..files.adapter_weights import AdapterInfo, Form
from ..models.adapter import TrainableModel
from .prior_images import Prior, class_prompt
from .rare_tokens import rare_token
from .reference_latents import image_latents
from .training import TrainingConfig, draw_rows, row_losses


@dataclass(frozen=True, kw_only=True)
class PreservationConfig(TrainingConfig):
    """Settings of the methods that tune weights.

    Attributes:
        prior_weight: of the class images' loss; 0 leaves them out, and none is drawn.
        prior_images: how many class images there are; 200 in the published scripts.
        token: text that names the subject before its class noun; empty takes the model's rarest (see `rare_tokens`).
    """

    prior_weight: float = 1.0
    prior_images: int = 200
    token: str = ""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.prior_weight <= 100:
            raise UserError(f"expected a weight of the class images from 0 to 100, found {self.prior_weight}")
        if not 1 <= self.prior_images <= 100_000:
            raise UserError(f"expected 1 to 100000 class images, found {self.prior_images}; to leave them out set their weight to 0")

    def token_for(self, model: TrainableModel) -> str:
        """The token that was asked for, or the model's rarest."""
        return self.token.strip() or rare_token(model.vocabulary)


class Preserving:
    """The two-part loss of one subject."""

    def __init__(self, model: TrainableModel, ref: Reference, class_noun: str, config: PreservationConfig, prior: Prior | None):
        if prior is not None and prior.model is not model:
            raise ValueError("expected class images of the model that is trained, found those of another one")
        self.model, self.config = model, config
        self.latents = image_latents(model, ref)
        if config.prior_weight > 0:
            self.class_latents = (prior or Prior(model)).latents(class_noun, config.prior_images).to(self.latents)
        self.class_prompt = [class_prompt(class_noun)]
        with torch.no_grad():
            self.class_context = model.encode_prompts([self.class_prompt]).context

    def loss(self, context: Tensor, class_context: Tensor, generator: torch.Generator) -> Tensor:
        """mean |eps' - eps|^2 over the subject's rows + prior_weight x the same over the class's, for their contexts [1, T, d].

        Both parts go through the network as one batch, as in diffusers' script.
        """
        batch, times = self.config.batch, len(self.model.schedule)
        rows, contexts = draw_rows(self.latents, batch, times, generator), context.expand(batch, -1, -1)
        if self.config.prior_weight == 0:
            return row_losses(self.model, rows, contexts).mean()
        rows = rows.joined(draw_rows(self.class_latents, batch, times, generator))
        both = row_losses(self.model, rows, torch.cat([contexts, class_context.expand(batch, -1, -1)]))
        return both[:batch].mean() + self.config.prior_weight * both[batch:].mean()


def adapter_info(
    form: Form, model: TrainableModel, config: TrainingConfig, noun: str, token: str, steps: int, images: int, **more: Any
) -> AdapterInfo:
    """What a file of adapter weights says of the run that made them, after so many steps on so many images; `more` are further fields."""
    return AdapterInfo(
        form,
        noun,
        token,
        family=model.family,
        width=model.embedding_width,
        base_model=model.name,
        base_fingerprint=model.fingerprint,
        steps=steps,
        learning_rate=config.learning_rate,
        seed=config.seed,
        images=images,
        prior_weight=getattr(config, "prior_weight", 0.0),  # of a method that preserves none
        **more,
    )
