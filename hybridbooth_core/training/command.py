"""The commands `hybridbooth train-probe`, `train-hypernetwork` and `train-adapter`.

`accelerate launch -m hybridbooth_core.training` runs the first, which takes the presets of all.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from ..errors import UserError
from .arguments import PROGRAMS, RESUME, Request, parse, rank
from .callbacks import TrainingBases
from .checkpoint import checkpoints, refuse_existing_run
from .config import LearnerKind, TrainConfig
from .distributed import DistributedEnv
from .dry_run import dry_run
from .metrics import read_curve
from .sample_grids import grid
from .trainer import Trainer

log = logging.getLogger("hybridbooth")


def run(arguments: Sequence[str], bases: TrainingBases, learner: LearnerKind = "probe") -> int:
    """Train a learner. Returns 0, or 130 after Ctrl-C. `--help` and unknown options exit.

    With several processes only the first one prints; the others print errors of their own steps, such as a missing shard.

    Raises:
        UserError: in the first process, for anything that the user can fix.
    """
    main = rank() == 0
    if not main:
        log.setLevel(logging.ERROR)
    try:
        request = parse(arguments, bases.presets, main, learner)
        processes = _processes(request.config)
        return _execute(request, bases, processes)
    except UserError:
        if main:
            raise
        return 2


def _processes(config: TrainConfig) -> DistributedEnv:
    """The environment of a launcher, or of a single process."""
    if "RANK" not in os.environ and "ACCELERATE_MIXED_PRECISION" not in os.environ:
        from ..models.device import compute_device

        return DistributedEnv.alone(compute_device(config.device))
    try:
        return DistributedEnv.launched(config.device)
    except ImportError as error:
        raise UserError('several processes need the package accelerate; run: pip install "hybridbooth[train]"') from error


def _execute(request: Request, bases: TrainingBases, processes: DistributedEnv) -> int:
    config = request.config
    if not (request.resume or request.dry_run):
        refuse_existing_run(config.out)  # before loading, which takes a while
    context, learner, callbacks = bases.prepare(config, processes.device)
    if request.dry_run:
        dry_run(config, context, learner, processes)
        return 0
    if config.log.grid_every and processes.main and callbacks.grid_content:
        callbacks = replace(callbacks, grid=grid(config, context, callbacks.grid_content(config.log.grid_subjects)))
    trainer = Trainer(config, context, learner, callbacks, processes)
    try:
        trainer.run(request.resume)
    except KeyboardInterrupt:
        if processes.main:
            print(f"\nhybridbooth: {_interrupted_message(config, trainer.step)}", file=sys.stderr)
        return 130
    except UserError as error:
        if not processes.main:
            print(f"hybridbooth (process {processes.rank}): {error}", file=sys.stderr)
        raise
    if processes.main:
        print(_summary(config))
    return 0


def _interrupted_message(config: TrainConfig, step: int) -> str:
    found = checkpoints(config.out)
    if not found:
        return f"interrupted after {step} steps, before the first checkpoint; the same command starts again"
    again = f"{PROGRAMS[config.learner]} {RESUME} {config.out}"
    return f"interrupted after {step} steps; {again} continues from step {found[0][0]}, the last checkpoint"


def _summary(config: TrainConfig) -> str:
    validated = [row for row in read_curve(config.out) if row.get("validation") is not None]
    last = validated[-1] if validated else None
    loss = f"; validation loss {last['validation']:.4f} (class noun: {last['validation_noun']:.4f})" if last else ""
    return (
        f"trained {config.steps} steps of {config.batch}{loss}\n"
        f"export it with: hybridbooth export-probe {config.out} --out NAME.safetensors"
    )
