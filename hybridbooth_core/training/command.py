"""What `hybridbooth train-probe` and `accelerate launch -m hybridbooth_core.training` do."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from ..errors import UserError
from .arguments import PROGRAM, RESUME, Request, parsed, rank
from .callbacks import TrainingBases
from .checkpoint import checkpoints, refuse_begun
from .config import TrainConfig
from .distributed import DistributedEnv
from .dry_run import dry_run
from .metrics import read_curve
from .sample_grids import grid
from .trainer import Trainer

log = logging.getLogger("hybridbooth")


def run(arguments: Sequence[str], bases: TrainingBases) -> int:
    """Train as a command line says. Returns 0, or 130 where Ctrl-C ended it; help and options that are none end the program.

    Of several processes only the first one speaks; but what another one runs into in its own steps, such as a shard that is missing, it
    says itself.

    Raises:
        UserError: in the first process, whatever the person can mend.
    """
    main = rank() == 0
    if not main:
        log.setLevel(logging.ERROR)
    try:
        request = parsed(arguments, bases.presets, speak=main)
        processes = _processes(request.config)
        return _carried_out(request, bases, processes)
    except UserError:
        if main:
            raise
        return 2


def _processes(config: TrainConfig) -> DistributedEnv:
    """This process alone, or as one of those that a launcher has started."""
    if "RANK" not in os.environ and "ACCELERATE_MIXED_PRECISION" not in os.environ:
        from ..models.device import compute_device

        return DistributedEnv.alone(compute_device(config.device))
    try:
        return DistributedEnv.launched(config.device)
    except ImportError as error:
        raise UserError('several processes need the package accelerate; run: pip install "hybridbooth[train]"') from error


def _carried_out(request: Request, bases: TrainingBases, processes: DistributedEnv) -> int:
    config = request.config
    if not (request.resume or request.dry_run):
        refuse_begun(config.out)  # before the large files are read, which takes a while
    context, probe, callbacks = bases.prepare(config, processes.device)
    if request.dry_run:
        dry_run(config, context, probe, processes)
        return 0
    if config.log.grid_every and processes.main and callbacks.grid_content:
        callbacks = replace(callbacks, grid=grid(config, context, callbacks.grid_content()))
    trainer = Trainer(config, context, probe, callbacks, processes)
    try:
        trainer.run(request.resume)
    except KeyboardInterrupt:
        if processes.main:
            print(f"\nhybridbooth: {_interrupted(config, trainer.step)}", file=sys.stderr)
        return 130
    except UserError as error:
        if not processes.main:
            print(f"hybridbooth (process {processes.rank}): {error}", file=sys.stderr)
        raise
    if processes.main:
        print(_finished(config))
    return 0


def _interrupted(config: TrainConfig, step: int) -> str:
    found = checkpoints(config.out)
    if not found:
        return f"interrupted after {step} steps, before the first checkpoint; the same command begins anew"
    return f"interrupted after {step} steps; {PROGRAM} {RESUME} {config.out} goes on from step {found[0][0]}, the last that was saved"


def _finished(config: TrainConfig) -> str:
    judged = [row for row in read_curve(config.out) if row.get("validation") is not None]
    loss = f"; validation loss {judged[-1]['validation']:.4f}, of the class noun {judged[-1]['validation_noun']:.4f}" if judged else ""
    return (
        f"trained {config.steps} steps of {config.batch}{loss}\n"
        f"to use or share it: hybridbooth export-probe {config.out} --out NAME.safetensors"
    )
