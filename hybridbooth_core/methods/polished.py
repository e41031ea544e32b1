"""HybridBooth with a third stage: the refined embeddings stay, and a small LoRA of the cross-attentions learns what they cannot hold.

The rank-relaxed finetuning of HyperDreamBooth (Ruiz et al. 2023, arXiv 2307.06949, section 4.4), begun from embeddings in place of
predicted weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..encoders.features import Reference
from ..errors import UserError
from ..files.adapter_weights import WORD, AdapterWeights, low_rank_tensors
from ..files.subject import Subject
from ..models.adapter import TrainableModel, check_family
from ..models.low_rank import LowRank, attention_layers, low_rank_on, new_low_rank
from ..models.progress import Step
from ..models.seeds import method_generator
from ..refine.config import RefineConfig
from ..refine.personalize import personalize
from ..refine.task import Task
from .artefact import Trained
from .dreambooth import MAX_RANK
from .method import Inputs, method
from .prior_preservation import adapter_info
from .training import OnStep, TrainingConfig, loss_scale, train

NAME = "polished"
LAYERS = ("_attn2_to_k", "_attn2_to_v")


@dataclass(frozen=True, kw_only=True)
class PolishConfig(TrainingConfig):
    """A LoRA of rank r on K and V of all cross-attentions.

    Attributes:
        caption: what the reference shows, as for the steps before; see `refine.captions`.
    """

    steps: int = 30
    learning_rate: float = 2e-4
    batch: int = 4
    rank: int = 4
    caption: str = ""

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.rank <= MAX_RANK:
            raise UserError(f"expected a rank from 1 to {MAX_RANK}, found {self.rank}")


def polish(model: TrainableModel, ref: Reference, subject: Subject, config: PolishConfig, on_step: OnStep | None = None) -> Trained:
    """Trains the LoRA around a subject's embeddings, which stay as they are. The model itself is never written to.

    Raises:
        UserError: the subject is for another family of models, its file names no class noun, or the loss is not finite.
    """
    check_family(model, "the subject", subject.embeddings.shape[1], subject.info.family, subject.info.base_model)
    if not subject.info.class_noun:
        raise UserError("the subject's file names no class noun, which a polished subject needs; make the subject again with this program")
    layers = {name: layer for name, layer in attention_layers(model.denoiser).items() if name.endswith(LAYERS)}
    noun = subject.info.class_noun

    def made(residuals: Mapping[str, LowRank], done: int) -> AdapterWeights:
        info = adapter_info(NAME, model, config, noun, noun, done, len(ref.images), licence=subject.info.licence)
        return AdapterWeights({**low_rank_tensors(residuals), WORD: subject.embeddings}, info)

    return train_low_rank(model, ref, subject.embeddings, layers, {}, made, config, on_step)


def train_low_rank(
    model: TrainableModel,
    ref: Reference,
    embeddings: Tensor,
    layers: Mapping[str, nn.Linear],
    start: Mapping[str, LowRank],
    made: Callable[[Mapping[str, LowRank], int], AdapterWeights],
    config: PolishConfig,
    on_step: OnStep | None = None,
) -> Trained:
    """Trains a fresh LoRA of the layers, beside a frozen one, on the loss of a refinement: the rank-relaxed finetuning.

    Args:
        embeddings: [n, d], what stands for the subject in a prompt; they stay as they are.
        start: what acts already, by the layers' names; {} for nothing.
        made: the artefact of the fresh LoRA after so many steps.
    """
    embeddings, generator = embeddings.to(model.device), method_generator(config.seed, 0)
    residuals = {name: new_low_rank(layer, config.rank, generator, model.device) for name, layer in layers.items()}
    task = Task(model, ref, RefineConfig(caption=config.caption, batch=config.batch, seed=config.seed))
    done = 0

    def loss_at(generator: torch.Generator) -> Tensor:
        nonlocal done
        done += 1
        with low_rank_on(layers, start), low_rank_on(layers, residuals):
            return task.loss(embeddings, *task.sample(config.batch, generator), with_masks=True, first=(done - 1) * config.batch)

    leaves = [leaf for residual in residuals.values() for leaf in (residual.down, residual.up)]
    return train(leaves, loss_at, lambda count: made(residuals, count), config, on_step, loss_scale(model))


@method(
    NAME,
    "hybridbooth, then a small LoRA of the cross-attentions",
    PolishConfig,
    needs=("probe", "class_noun"),
    makes=NAME,
    defaults={"miniature": {"learning_rate": 1e-3}},
)
def run(inputs: Inputs, config: PolishConfig, on_step: OnStep | None = None) -> Trained:
    """A probe's prediction, refined as by `hybridbooth`, then `polish`; `steps` counts those of the LoRA."""
    assert inputs.probe is not None and inputs.features is not None
    first = RefineConfig(caption=config.caption, seed=config.seed)
    before = 0

    def on_first(step: Step) -> None:
        nonlocal before
        before = step.steps
        if on_step is not None:
            on_step(Step(step.done, step.steps + config.steps, step.loss, step.current))

    def on_second(step: Step) -> None:
        if on_step is not None:
            on_step(Step(before + step.done, before + step.steps, step.loss, step.current))

    made = personalize(inputs.model, inputs.probe, inputs.ref, inputs.features, inputs.class_noun, first, on_first)
    polished = polish(inputs.model, inputs.ref, made.subject, config, on_second)
    losses = [*made.refinement.losses, *polished.losses]
    return Trained(polished.artefacts, losses, f"{made.report()}\nLoRA: {polished.report}", made.refinement)
