"""DreamBooth (Ruiz et al. 2023, arXiv 2208.12242): the denoiser learns what "<rare token> <class>" looks like, and keeps its class.

The whole denoiser moves, or low-rank residuals on its attentions. The text encoder stays, as in diffusers' scripts by default.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoders.features import Reference
from ..errors import UserError
from ..files.adapter_weights import AdapterWeights, Form, low_rank_tensors
from ..models.adapter import TrainableModel, class_embedding
from ..models.low_rank import attention_projections, low_rank_on, new_low_rank
from ..models.seeds import method_generator
from .artefact import Trained
from .method import Inputs, method
from .prior_images import Prior
from .prior_preservation import PreservationConfig, Preserving, adapter_info
from .training import OnStep, loss_scale, train

MAX_RANK = 1024


@dataclass(frozen=True, kw_only=True)
class DreamBoothConfig(PreservationConfig):
    """The whole denoiser. As published for Stable Diffusion: 800 steps at 5e-6 with 1 + 1 rows a step (diffusers' script)."""

    steps: int = 800
    learning_rate: float = 5e-6
    batch: int = 1


@dataclass(frozen=True, kw_only=True)
class DreamBoothLoraConfig(DreamBoothConfig):
    """Low-rank residuals of rank r on q, k, v and out of all attentions: 500 steps at 1e-4, r = 4 (diffusers' script)."""

    steps: int = 500
    learning_rate: float = 1e-4
    rank: int = 4

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.rank <= MAX_RANK:
            raise UserError(f"expected a rank from 1 to {MAX_RANK}, found {self.rank}")


def dreambooth(
    model: TrainableModel,
    ref: Reference,
    class_noun: str,
    config: DreamBoothConfig,
    prior: Prior | None = None,
    on_step: OnStep | None = None,
) -> Trained:
    """Tune the denoiser to a subject by the prompt "a photo of a <token> <class>". The model itself is never written to.

    Args:
        config: of `DreamBoothLoraConfig` for low-rank residuals.
        prior: class images to share between subjects; made if None.
    Raises:
        UserError: no class noun, a token that the model cannot read, or a loss that is not finite.
        ValueError: the class images are of another model.
    """
    noun = class_noun.strip()
    class_embedding(model, noun)  # refuses an empty one
    token = config.token_for(model)
    with torch.no_grad():
        context = model.encode_prompts([["a photo of a", f"{token} {noun}"]]).context
    task = Preserving(model, ref, noun, config, prior)
    moved = _LowRank(model, config) if isinstance(config, DreamBoothLoraConfig) else _Full(model)

    def loss_at(generator: torch.Generator) -> Tensor:
        with moved.computing():
            return task.loss(context, generator)

    def snapshot(done: int) -> AdapterWeights:
        return AdapterWeights(moved.tensors(), adapter_info(moved.form, model, config, noun, token, done, len(ref.images)))

    return train(moved.leaves, loss_at, snapshot, config, on_step, loss_scale(model))


class _Full:
    """What moves is a copy of every parameter, in float32 whatever the denoiser's own precision is."""

    form: Form = "full"

    def __init__(self, model: TrainableModel):
        self.model, self.own = model, dict(model.denoiser.named_parameters())
        self.copies = {name: parameter.detach().float().clone().requires_grad_(True) for name, parameter in self.own.items()}
        self.leaves = list(self.copies.values())

    def computing(self) -> AbstractContextManager[None]:
        return self.model.replaced({name: copy.to(self.own[name].dtype) for name, copy in self.copies.items()})

    def tensors(self) -> dict[str, Tensor]:
        return {name: copy.detach().cpu().clone() for name, copy in self.copies.items()}


class _LowRank:
    """What moves is a residual on each attention projection, zero at the start."""

    form: Form = "lora"

    def __init__(self, model: TrainableModel, config: DreamBoothLoraConfig):
        self.denoiser, generator = model.denoiser, method_generator(config.seed, 0)
        layers = attention_projections(self.denoiser)
        self.residuals = {name: new_low_rank(layer, config.rank, generator, model.device) for name, layer in layers.items()}
        self.leaves = [leaf for residual in self.residuals.values() for leaf in (residual.down, residual.up)]

    def computing(self) -> AbstractContextManager[None]:
        return low_rank_on(self.denoiser, self.residuals)

    def tensors(self) -> dict[str, Tensor]:
        return low_rank_tensors(self.residuals)


@method(
    "dreambooth",
    "all weights of the denoiser",
    DreamBoothConfig,
    needs=("class_noun", "prior_images"),
    makes="full",
    defaults={"miniature": {"steps": 200, "learning_rate": 2e-4, "batch": 4, "prior_images": 32}},
)
@method(
    "dreambooth_lora",
    "a LoRA of the denoiser's attentions",
    DreamBoothLoraConfig,
    needs=("class_noun", "prior_images"),
    makes="lora",
    defaults={"miniature": {"steps": 100, "learning_rate": 1e-3, "batch": 4, "prior_images": 32}},
)
def run(inputs: Inputs, config: DreamBoothConfig, on_step: OnStep | None = None) -> Trained:
    """See `dreambooth`."""
    return dreambooth(inputs.model, inputs.ref, inputs.class_noun, config, inputs.prior, on_step)
