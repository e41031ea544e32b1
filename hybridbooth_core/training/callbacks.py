"""What a base model adds to a training: presets, further validation metrics, and the content of sample grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..encoders.features import Reference
from ..models.progress import OnStep
from ..probe.learner import Features, Learner
from .config import TrainConfig
from .context import TrainingContext


@dataclass(frozen=True, eq=False)
class GridSubject:
    """One row of a sample grid: a reference image with an optional mask, its features, and its class noun.

    `other` is another photo of the subject, if there is one, and `caption` says what it shows; see `refine.captions`.
    """

    ref: Reference
    features: Features
    noun: str
    other: Reference | None = None
    caption: str = ""


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
    """Functions that the trainer or the command calls.

    Attributes:
        check: further metrics of a probe, at each validation.
        grid: writes a sample grid of a probe to a PNG file.
        on_step: called after every step; may raise to stop, and the last checkpoint remains.
        grid_content: so many subjects, and prompts, for grids before the training, and for the calibration after it.
    """

    check: Callable[[Any], dict[str, float]] | None = None
    grid: Callable[[Any, Path], None] | None = None
    on_step: OnStep | None = None
    grid_content: Callable[[int], GridContent] | None = None


@dataclass(frozen=True)
class TrainingBases:
    """What the command `train-probe` needs from the base models.

    Attributes:
        presets: name to description and configuration.
        prepare: loads everything that a configuration names; returns the context, an untrained probe, and the base's callbacks.
        hub_model: from `TrainConfig.model` to the model's id on the Hugging Face Hub, for the model card; "" if it has none.
    """

    presets: Mapping[str, tuple[str, Callable[[], TrainConfig]]]
    prepare: Callable[[TrainConfig, torch.device], tuple[TrainingContext, Learner, Callbacks]]
    hub_model: Callable[[str], str]
