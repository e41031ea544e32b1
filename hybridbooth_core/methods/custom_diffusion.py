"""Custom Diffusion (Kumari et al. 2023, arXiv 2212.04488): K and V of the cross-attentions and one new word learn the subject."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoders.features import Reference
from ..errors import UserError
from ..files.adapter_weights import WORD, AdapterWeights, custom_diffusion_name
from ..models.adapter import TrainableModel, class_embedding
from .artefact import Trained
from .method import Inputs, method
from .prior_images import Prior
from .prior_preservation import PreservationConfig, Preserving, adapter_info
from .training import OnStep, loss_scale, train


@dataclass(frozen=True, kw_only=True)
class CustomDiffusionConfig(PreservationConfig):
    """As published: 250 steps at 1e-5 with 2 + 2 rows a step (the authors' script multiplies the rate by the rows and GPUs: 8e-5).

    `token` is where the new token starts from.
    """

    steps: int = 250
    learning_rate: float = 1e-5
    batch: int = 2


def custom_diffusion(
    model: TrainableModel,
    ref: Reference,
    class_noun: str,
    config: CustomDiffusionConfig,
    prior: Prior | None = None,
    on_step: OnStep | None = None,
) -> Trained:
    """Tune to_k, to_v of every attn2 and a new word by the prompt "a photo of a <new> <class>". The model itself is never written to.

    The authors take class images from the web and resize the subject's at random; here the base model draws the class images (their
    script's option) and the subject's stay as they are.

    Raises:
        UserError: no class noun, a token that the model cannot read, no cross-attention, or a loss that is not finite.
        ValueError: the class images are of another model.
    """
    noun = class_noun.strip()
    class_embedding(model, noun)  # refuses an empty one
    token = config.token_for(model)
    word = class_embedding(model, token)[None].clone().requires_grad_(True)
    own = {name: p for name, p in model.denoiser.named_parameters() if name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight"))}
    if not own:
        raise UserError(f"the denoiser of {model.name} has no cross-attention, so it cannot be tuned by Custom Diffusion")
    copies = {name: parameter.detach().to(model.device, torch.float32, copy=True).requires_grad_(True) for name, parameter in own.items()}
    task = Preserving(model, ref, noun, config, prior)

    def loss_at(generator: torch.Generator) -> Tensor:
        context = model.encode_prompts([["a photo of a", word, noun]]).context
        with model.replaced({name: copy.to(own[name].dtype) for name, copy in copies.items()}):
            return task.loss(context, task.class_context, generator)

    def snapshot(done: int) -> AdapterWeights:
        tensors = {custom_diffusion_name(name): copy.detach().cpu().clone() for name, copy in copies.items()}
        info = adapter_info("custom_diffusion", model, config, noun, token, done, len(ref.images))
        return AdapterWeights({**tensors, WORD: word.detach().cpu().clone()}, info)

    return train([*copies.values(), word], loss_at, snapshot, config, on_step, loss_scale(model))


@method(
    "custom_diffusion",
    "a new token, and K and V of the cross-attentions",
    CustomDiffusionConfig,
    needs=("class_noun", "prior_images"),
    makes="custom_diffusion",
    defaults={"miniature": {"steps": 50, "learning_rate": 1e-3, "batch": 4, "prior_images": 32}},
)
def run(inputs: Inputs, config: CustomDiffusionConfig, on_step: OnStep | None = None) -> Trained:
    """See `custom_diffusion`."""
    return custom_diffusion(inputs.model, inputs.ref, inputs.class_noun, config, inputs.prior, on_step)
