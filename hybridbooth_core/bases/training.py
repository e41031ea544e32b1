"""What `train-probe` asks of the base models, collected from all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import BASES
from .base import Base

if TYPE_CHECKING:
    from ..training.callbacks import TrainingBases


def training_bases() -> TrainingBases:
    """The presets of all bases by name, and functions that ask the base a configuration names."""
    from ..training.callbacks import TrainingBases

    def base_of(model: str) -> type[Base]:
        return next((kind for kind in BASES if kind.recognises(model)), BASES[-1])

    return TrainingBases(
        presets={name: preset for kind in BASES for name, preset in kind.presets().items()},
        prepare=lambda config, device: base_of(config.model).prepare_training(config, device),
        hub_model=lambda model: base_of(model).hub_model,
    )
