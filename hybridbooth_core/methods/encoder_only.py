"""Regression alone: the probe's guess as it is, without a step (the way of ELITE, Wei et al. 2023, and FastComposer, Xiao et al. 2023).

FastComposer's other half, delayed subject conditioning, belongs to sampling: `sampling.generate(..., early=, delay=)`.
"""

from __future__ import annotations

from ..encoders.features import Reference
from ..models.adapter import DiffusionModel
from ..probe.probe import Features, Probe
from ..refine.personalize import personalize
from ..refine.refine import RefineConfig
from .artefact import Trained


def encoder_only(model: DiffusionModel, probe: Probe, ref: Reference, features: Features, class_noun: str) -> Trained:
    """The words that the probe guesses, kept as those after 0 steps.

    Args:
        ref, features: of the same images (`features.reference`, `features.extract_features`); several images' guesses are averaged.
    Raises:
        UserError: probe and model do not belong together, or no class noun.
    """
    return Trained({0: personalize(model, probe, ref, features, class_noun, RefineConfig(steps=0)).subject})
