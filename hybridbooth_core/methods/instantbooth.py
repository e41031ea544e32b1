"""InstantBooth (Shi et al. 2023, arXiv 2304.03411): no step at all; see `probe.instant`."""

from __future__ import annotations

from ..models.adapter import class_embedding
from ..probe.reading import Reading
from .artefact import Trained
from .hyperdreambooth import PredictionConfig
from .method import Inputs, OnStep, method


@method(
    "instantbooth", "a concept token and adapter layers that read the images", PredictionConfig, needs=("adapter", "class_noun"),
    makes="reading",
)  # fmt: skip
def instantbooth(inputs: Inputs, config: PredictionConfig, on_step: OnStep | None = None) -> Trained:
    """What the adapter reads of all images together."""
    assert inputs.adapter is not None and inputs.features is not None
    class_embedding(inputs.model, inputs.class_noun)  # refuses an empty one
    found = Reading.of(inputs.adapter, inputs.model, inputs.features, inputs.class_noun)
    count = len(inputs.ref.images)
    return Trained({0: found}, [], f"{count} image{'s'[: count > 1]} read, {len(found.patches)} patch features")
