"""What a base model adds to a training: extra numbers at a validation, and what its sample grids show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..encoders.features import Reference
from ..probe.probe import Features, Probe
from .config import TrainConfig
from .context import TrainingContext


@dataclass(frozen=True, eq=False)
class GridSubject:
    """A subject of a sample grid: one image with its mask, or none, its features, and its class noun."""

    ref: Reference
    features: Features
    noun: str


@dataclass(frozen=True)
class GridPrompts:
    """The text before the token embeddings, the texts after them in new contexts, and the guidance scale."""

    before: str
    contexts: tuple[str, ...]
    guidance: float


@dataclass(frozen=True, eq=False)
class GridContent:
    """The rows of a sample grid and its prompts. `held_out`: none of the subjects is trained on."""

    subjects: Sequence[GridSubject]
    prompts: GridPrompts
    held_out: bool


@dataclass(frozen=True)
class Callbacks:
    """
    Attributes:
        check: a probe's further numbers at each validation.
        grid: draws a sample grid of a probe into a PNG file.
        grid_content: what `grid` shows; called once before the training, and only where grids are drawn.
    """

    check: Callable[[Probe], dict[str, float]] | None = None
    grid: Callable[[Probe, Path], None] | None = None
    grid_content: Callable[[], GridContent] | None = None


@dataclass(frozen=True)
class TrainingBases:
    """All that the command `train-probe` asks of the base models.

    Attributes:
        presets: by name, what they are for, and the function that makes the configuration.
        prepare: loads what a configuration names; returns the frozen networks with the data, an untrained probe, and the base's callbacks.
        hub_model: the id of a model (`TrainConfig.model`) on model hubs, for a probe's card; "" where it has none.
    """

    presets: Mapping[str, tuple[str, Callable[[], TrainConfig]]]
    prepare: Callable[[TrainConfig, torch.device], tuple[TrainingContext, Probe, Callbacks]]
    hub_model: Callable[[str], str]
