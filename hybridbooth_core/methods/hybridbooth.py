"""HybridBooth (Guan et al. 2024, arXiv 2410.08192): a probe predicts the embeddings, a few steps through the frozen model refine them."""

from __future__ import annotations

from ..refine.config import RefineConfig
from ..refine.personalize import personalize
from .artefact import Trained
from .method import Inputs, OnStep, method


@method("hybridbooth", "a probe's prediction, refined by a few steps", RefineConfig, needs=("probe", "class_noun"))
def hybridbooth(inputs: Inputs, config: RefineConfig, on_step: OnStep | None = None) -> Trained:
    """See `refine.personalize.personalize`."""
    assert inputs.probe is not None and inputs.features is not None
    made = personalize(inputs.model, inputs.probe, inputs.ref, inputs.features, inputs.class_noun, config, on_step)
    return Trained({len(made.refinement.losses): made.subject}, made.refinement.losses, made.report(), made.refinement)
