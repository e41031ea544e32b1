"""HyperDreamBooth (Ruiz et al. 2023, arXiv 2307.06949): a hypernetwork's weights, then a few steps that may leave their rank.

`hypernetwork` takes the prediction as it is. `hyperdreambooth` is the whole: rank-relaxed finetuning (section 4.4) freezes what is
predicted, of rank 1, and trains a LoRA of higher rank beside it; both together are one exact LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..encoders.features import Reference
from ..errors import UserError
from ..files.adapter_weights import AdapterWeights, low_rank_tensors
from ..models.adapter import TrainableModel, class_embedding
from ..models.lidb import lidb_layers
from ..models.low_rank import LowRank, concatenated
from .artefact import Trained
from .method import Inputs, OnStep, method
from .polished import PolishConfig, train_low_rank
from .prior_preservation import adapter_info


@dataclass(frozen=True)
class PredictionConfig:
    """Nothing to choose: `steps` is 0."""

    steps: int = 0

    def __post_init__(self):
        if self.steps:
            raise UserError(f"a prediction as it is has no steps, found {self.steps}; set the steps to 0, or choose hyperdreambooth")


@dataclass(frozen=True, kw_only=True)
class HyperDreamBoothConfig(PolishConfig):
    """40 steps of rank 4, as published; the learning rate is a guess at Stable Diffusion's size, the paper gives none.

    No class images: so few steps keep the class, and the prompt's other words are kept by the caption.
    """

    steps: int = 40
    learning_rate: float = 2e-4
    batch: int = 2


def finetune(
    model: TrainableModel, ref: Reference, start: AdapterWeights | None, class_noun: str, token: str, config: PolishConfig,
    on_step: OnStep | None = None,
) -> Trained:  # fmt: skip
    """Rank-relaxed finetuning from predicted or trained numbers of Lightweight DreamBooth, or from nothing.

    Args:
        start: of the form "lidb"; None trains from the base model alone.
        class_noun, token: the subject's, where there is no start.
    Raises:
        UserError: the start was made for another model or is of another form, or the loss is not finite.
    """
    if start is not None and start.info.form != "lidb":
        raise UserError(f"expected Lightweight DreamBooth (lidb) to start from, found {start.info.form}")
    noun, token = (class_noun.strip(), token) if start is None else (start.info.class_noun, start.info.token)
    class_embedding(model, noun)  # refuses an empty one
    frozen: Mapping[str, LowRank] = {} if start is None else start.residuals(model)
    layers = lidb_layers(model, "all" if start is None else start.info.targets)  # type: ignore[arg-type]

    def made(residuals: Mapping[str, LowRank], done: int) -> AdapterWeights:
        licence = "" if start is None else start.info.licence
        info = adapter_info("lora", model, config, noun, token, done, len(ref.images), licence=licence)
        return AdapterWeights(low_rank_tensors(concatenated(frozen, residuals)), info)

    return train_low_rank(model, ref, model.token_embeddings(f"{token} {noun}"), layers, frozen, made, config, on_step)


def _predicted(inputs: Inputs) -> AdapterWeights:
    assert inputs.hypernetwork is not None and inputs.features is not None
    class_embedding(inputs.model, inputs.class_noun)
    return inputs.hypernetwork.predict(inputs.model, inputs.features, inputs.class_noun.strip())


@method("hypernetwork", "a hypernetwork's weights as they are", PredictionConfig, needs=("hypernetwork", "class_noun"), makes="lidb")
def predict(inputs: Inputs, config: PredictionConfig, on_step: OnStep | None = None) -> Trained:
    """The weights that the hypernetwork predicts; the predictions of several images are averaged."""
    found = _predicted(inputs)
    return Trained({0: found}, [], f"weights predicted from {len(inputs.ref.images)} image{'s'[: len(inputs.ref.images) > 1]}")


@method(
    "hyperdreambooth",
    "a hypernetwork's weights, then a few steps of a LoRA beside them",
    HyperDreamBoothConfig,
    needs=("hypernetwork", "class_noun"),
    makes="lora",
    defaults={"miniature": {"learning_rate": 3e-3}},
)
def run(inputs: Inputs, config: HyperDreamBoothConfig, on_step: OnStep | None = None) -> Trained:
    """The prediction, then `finetune`."""
    start = _predicted(inputs)
    return finetune(inputs.model, inputs.ref, start, start.info.class_noun, start.info.token, config, on_step)
