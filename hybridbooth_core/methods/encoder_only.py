"""The probe's prediction as it is, without a step, as ELITE (Wei et al. 2023) and FastComposer (Xiao et al. 2023) take theirs.

FastComposer's other half, delayed subject conditioning, belongs to sampling: `sampling.generate(..., early=, delay=)`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserError
from ..refine.config import RefineConfig
from ..refine.personalize import personalize
from .artefact import Trained
from .method import Inputs, OnStep, method


@dataclass(frozen=True)
class EncoderOnlyConfig:
    """Nothing to choose: `steps` is 0."""

    steps: int = 0

    def __post_init__(self):
        if self.steps:
            raise UserError(f"encoder_only takes the probe's prediction as it is and has no steps, found {self.steps}; set the steps to 0")


@method("encoder_only", "the probe's prediction alone", EncoderOnlyConfig, needs=("probe", "class_noun"))
def encoder_only(inputs: Inputs, config: EncoderOnlyConfig, on_step: OnStep | None = None) -> Trained:
    """The embeddings that the probe predicts; the predictions of several images are averaged.

    Raises:
        UserError: probe and model do not belong together, or no class noun.
    """
    assert inputs.probe is not None and inputs.features is not None
    made = personalize(inputs.model, inputs.probe, inputs.ref, inputs.features, inputs.class_noun, RefineConfig(steps=0))
    return Trained({0: made.subject}, [], made.report(), made.refinement)
