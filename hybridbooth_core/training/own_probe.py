"""A probe from nothing but a base model, which draws the training set itself.

Drawing and training continue where they were stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.cache import FeatureCache
from ..data.drawing import Drawing
from ..data.prepare import prepare
from ..data.samples import Standards
from ..errors import UserError
from ..models.progress import OnStep
from ..probe.learner import Learner
from ..probe.probe import Probe
from .callbacks import Callbacks
from .config import TrainConfig
from .context import TrainingContext
from .export import check_export, export_probe
from .trainer import Trainer

SUBJECTS, VIEWS = 4000, 2
SHARDS, RUN = "shards", "run"
NEUTRAL = 0.1
"""Fraction of prompts that say nothing of the scene, since the prompts of drawings are known."""

Prepare = Callable[[TrainConfig], tuple[TrainingContext, Learner, Callbacks]]
"""Loads the frozen networks and the shards of a configuration, and makes an untrained probe."""


def own_config(preset: TrainConfig, folder: Path, steps: int | None = None, **changes: Any) -> TrainConfig:
    """The configuration of a training on drawings in `folder`; `steps` None takes the preset's.

    Each drawing is its own target: the two scenes of a description are not quite one subject, and in the miniature a probe that had to
    predict the other scene was worse (benchmarks/outside/drawn.py). The other scene serves the calibration.
    """
    assert preset.log.grid_every, "without sample grids the autoencoder is not loaded, which the calibration needs"
    data = replace(preset.data, shards=folder / SHARDS, neutral=NEUTRAL, cross_pairs=False)
    log = replace(preset.log, save_every=min(preset.log.save_every, 250))
    return replace(preset, out=folder / RUN, data=data, log=log, steps=preset.steps if steps is None else steps, **changes)


def draw_shards(
    drawing: Drawing,
    folder: Path,
    cache: FeatureCache | None = None,
    on_event: Callable[[Mapping[str, Any]], None] | None = None,
) -> None:
    """Draws the training set into `folder`, or continues to.

    Args:
        cache: computes features beside the images, as a configuration with `data.cached` reads them.
        on_event: called with the counts after each image; may raise to stop.
    Raises:
        UserError: the folder holds a set that was drawn otherwise, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be created ({error.strerror or error}); choose another place") from error
    # one worker, since the model draws one batch at a time
    prepare(drawing, folder / SHARDS, Standards(drawing.model.image_size), cache=cache, workers=1, on_event=on_event)


def train_on_drawings(config: TrainConfig, prepare_training: Prepare, out: Path, on_step: OnStep | None = None) -> Probe:
    """Trains a probe on what `draw_shards` has drawn, or continues to, and writes it to `out` with its card and hash.

    Args:
        config: from `own_config`, with the same folder.
        on_step: called after every step; may raise to stop.
    Raises:
        UserError: `out` exists, or what a training raises.
    """
    check_export(out)
    context, probe, callbacks = prepare_training(config)
    assert isinstance(probe, Probe)
    trained = Trainer(config, context, probe, replace(callbacks, on_step=on_step)).run(resume=True)
    export_probe(config.out, out)
    return trained
