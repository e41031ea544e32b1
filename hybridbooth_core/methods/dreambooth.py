"""DreamBooth (Ruiz et al. 2023, arXiv 2208.12242): the denoiser learns what "<rare token> <class>" looks like, and keeps its class.

The whole denoiser moves, or low-rank residuals on its attentions; the text encoder stays, as in diffusers' scripts by default. Lightweight
DreamBooth (Ruiz et al. 2023, arXiv 2307.06949) moves 150 numbers of each attention and text layer, see `models.lidb`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from ..encoders.features import Reference
from ..errors import UserError
from ..files.adapter_weights import NUMBERS, AdapterWeights, Form, low_rank_tensors
from ..models.adapter import TrainableModel, class_embedding
from ..models.lidb import BASIS, IN, OUT, LiDBSpace, Targets, lidb_layers
from ..models.low_rank import attention_layers, low_rank_on, new_low_rank
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


@dataclass(frozen=True, kw_only=True)
class LiDBConfig(DreamBoothConfig):
    """Numbers in a fixed random subspace; the learning rate is that of a public implementation, the paper gives none.

    Attributes:
        subspace: a and b.
        targets: "unet", "unet+text", or "all", which is the text encoder's MLPs too.
    """

    steps: int = 300
    learning_rate: float = 1e-3
    subspace: tuple[int, int] = (OUT, IN)
    targets: Targets = "all"

    def __post_init__(self):
        super().__post_init__()
        if len(self.subspace) != 2 or not all(1 <= int(size) <= 320 and size == int(size) for size in self.subspace):
            raise UserError(f"expected two whole numbers from 1 to 320 for the subspace, found {' '.join(map(str, self.subspace))}")
        if self.targets not in get_args(Targets):
            raise UserError(f"expected the targets {', '.join(get_args(Targets))}, found {self.targets[:40]!r}")


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
        config: of `DreamBoothLoraConfig` for low-rank residuals, of `LiDBConfig` for Lightweight DreamBooth.
        prior: class images to share between subjects; made if None.
    Raises:
        UserError: no class noun, a token that the model cannot read, or a loss that is not finite.
        ValueError: the class images are of another model.
    """
    noun = class_noun.strip()
    class_embedding(model, noun)  # refuses an empty one
    token = config.token_for(model)
    prompt = ["a photo of a", f"{token} {noun}"]
    with torch.no_grad():
        context = model.encode_prompts([prompt]).context
    task = Preserving(model, ref, noun, config, prior)
    moved = _moved(model, config)

    def loss_at(generator: torch.Generator) -> Tensor:
        with moved.computing():
            if moved.text:  # the class's prompt passes the moved text encoder too, as in diffusers' scripts
                both = [model.encode_prompts([text]).context for text in (prompt, task.class_prompt)]
                return task.loss(both[0], both[1], generator)
            return task.loss(context, task.class_context, generator)

    def snapshot(done: int) -> AdapterWeights:
        info = adapter_info(moved.form, model, config, noun, token, done, len(ref.images), **moved.described())
        return AdapterWeights(moved.tensors(), info)

    return train(moved.leaves, loss_at, snapshot, config, on_step, loss_scale(model))


class _Moved:
    """What a training moves: its leaves, a context manager under which they act, and the tensors and facts of a file."""

    form: Form
    leaves: list[Tensor]
    text = False  # whether it moves the text encoder too

    def computing(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        raise NotImplementedError

    def described(self) -> dict[str, Any]:
        """Fields of `AdapterInfo` beyond the usual ones."""
        return {}


def _moved(model: TrainableModel, config: DreamBoothConfig) -> _Moved:
    if isinstance(config, LiDBConfig):
        return _Numbers(model, config)
    return _LowRank(model, config) if isinstance(config, DreamBoothLoraConfig) else _Full(model)


class _Full(_Moved):
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


class _LowRank(_Moved):
    """What moves is a residual on each attention projection, zero at the start."""

    form: Form = "lora"

    def __init__(self, model: TrainableModel, config: DreamBoothLoraConfig):
        self.layers, generator = attention_layers(model.denoiser), method_generator(config.seed, 0)
        self.residuals = {name: new_low_rank(layer, config.rank, generator, model.device) for name, layer in self.layers.items()}
        self.leaves = [leaf for residual in self.residuals.values() for leaf in (residual.down, residual.up)]

    def computing(self) -> AbstractContextManager[None]:
        return low_rank_on(self.layers, self.residuals)

    def tensors(self) -> dict[str, Tensor]:
        return low_rank_tensors(self.residuals)


class _Numbers(_Moved):
    """What moves are the numbers of Lightweight DreamBooth; at their start nothing is changed."""

    form: Form = "lidb"

    def __init__(self, model: TrainableModel, config: LiDBConfig):
        self.config, self.layers = config, lidb_layers(model, config.targets)
        try:
            self.space = LiDBSpace.of(self.layers, int(config.subspace[0]), int(config.subspace[1]))
        except ValueError as error:
            raise UserError(f"{error}; {model.name} has smaller layers") from error
        self.numbers = self.space.start().to(model.device).requires_grad_(True)
        self.leaves, self.text = [self.numbers], config.targets != "unet"

    def computing(self) -> AbstractContextManager[None]:
        return low_rank_on(self.layers, self.space.residuals(self.numbers))

    def tensors(self) -> dict[str, Tensor]:
        return {NUMBERS: self.numbers.detach().cpu().clone()}

    def described(self) -> dict[str, Any]:
        return {"subspace": (self.space.a, self.space.b), "targets": self.config.targets, "basis": BASIS}


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
@method(
    "lidb",
    "30,000 numbers in a random subspace of all attentions and the text encoder (Lightweight DreamBooth)",
    LiDBConfig,
    needs=("class_noun", "prior_images"),
    makes="lidb",
    defaults={"miniature": {"steps": 100, "learning_rate": 1e-2, "batch": 4, "prior_images": 32, "subspace": (32, 16)}},
)
def run(inputs: Inputs, config: DreamBoothConfig, on_step: OnStep | None = None) -> Trained:
    """See `dreambooth`."""
    return dreambooth(inputs.model, inputs.ref, inputs.class_noun, config, inputs.prior, on_step)
