"""The training loop for the networks of the miniature world, resumable at any step.

The batch of step `i` depends on (seed, stage, i) only, so a resumed run gives the same result as an uninterrupted one.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...files.atomic import atomic
from ...models.seeds import stage_generator
from ...training.optimizer import Average, Optimizer, rate_at

log = logging.getLogger("hybridbooth")


@dataclass(frozen=True)
class Schedule:
    """Steps, batch size, learning rates and intervals of a stage. Nothing depends on time, so all machines train the same network."""

    steps: int
    batch: int
    muon_lr: float = 2.5e-3  # matrices and convolutions
    adam_lr: float = 1.5e-3  # everything else
    warmup: int = 100
    decay: float = 0.6  # fraction of the steps, at the end, over which the learning rate falls linearly to zero
    ema: float = 0.997
    save_every: int = 500

    def rate(self, step: int) -> float:
        """The learning-rate factor of a step in 0..1."""
        return rate_at(step, self.steps, self.warmup, self.decay)


def train(
    stage: str,
    modules: dict[str, nn.Module],
    loss_of: Callable[[torch.Generator, int], Tensor],
    schedule: Schedule,
    folder: Path,
    seed: int = 0,
    check: Callable[[], dict[str, float]] | None = None,
    check_every: int = 1000,
) -> None:
    """Trains `modules` in place. Afterwards they have the averaged weights, frozen and in eval mode.

    Args:
        loss_of: (generator of this step, step) -> scalar loss with a graph.
        folder: for `<stage>.ckpt` (to resume) and `<stage>.jsonl` (training curve). A complete stage is only loaded.
        check: returns metrics; called with the averaged weights every `check_every` steps and at the end.
    Raises:
        FloatingPointError: the loss or a gradient is not finite; the checkpoint is the last good one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, curve = folder / f"{stage}.ckpt", folder / f"{stage}.jsonl"
    optimizer = Optimizer(list(modules.values()), schedule.adam_lr, schedule.muon_lr)
    average = Average(_weights(modules), schedule.ema)
    start = _resume(path, modules, optimizer, average, schedule)
    began, running = time.time(), 0.0
    for module in modules.values():
        module.train()
    with tqdm(total=schedule.steps, initial=start, desc=stage, mininterval=5, dynamic_ncols=True) as bar:
        for step in range(start, schedule.steps):
            loss = loss_of(stage_generator(seed, stage, step), step)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss of stage {stage} is {loss.item()} at step {step}; the last good state is in {path}")
            loss.backward()
            norm = optimizer.step(schedule.rate(step))
            if not math.isfinite(norm):  # possible with a finite loss; the step must not be saved
                raise FloatingPointError(f"the gradient of stage {stage} is {norm} at step {step}; the last good state is in {path}")
            average.update(_weights(modules), step)
            running += 0.02 * (loss.item() - running) if step > start else loss.item()
            bar.update()
            done = step + 1
            if done % 100 == 0 or done == schedule.steps:
                row = {"step": done, "loss": round(running, 5), "grad_norm": round(norm, 4), "seconds": round(time.time() - began, 1)}
                if check and (done % check_every == 0 or done == schedule.steps):
                    row |= _on_average(check, modules, average)
                bar.set_postfix({k: f"{v:.3f}" for k, v in row.items() if k not in ("step", "seconds")}, refresh=False)
                with curve.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            if done % schedule.save_every == 0 or done == schedule.steps:
                state = {name: module.state_dict() for name, module in modules.items()}
                _save({"step": done, "modules": state, "average": average.weights, "optimizer": optimizer.state_dict()}, path)
    _load_average(modules, average)
    for module in modules.values():
        module.eval().requires_grad_(False)


def _resume(path: Path, modules: dict[str, nn.Module], optimizer: Optimizer, average: Average, schedule: Schedule) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location=torch.get_default_device(), weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    optimizer.load_state_dict(state["optimizer"])
    average.load(state["average"])
    log.info("resuming %s at step %d of %d", path.stem, state["step"], schedule.steps)
    return state["step"]


def _save(state: dict, path: Path) -> None:
    """Writes the checkpoint atomically."""
    with atomic(path) as file:
        torch.save(state, file)


def _weights(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


def _load_average(modules: dict[str, nn.Module], average: Average) -> None:
    for name, module in modules.items():
        module.load_state_dict({key: average.weights[f"{name}.{key}"] for key in module.state_dict()})


def _on_average(check: Callable[[], dict[str, float]], modules: dict[str, nn.Module], average: Average) -> dict[str, float]:
    """The metrics of `check` with the averaged weights in eval mode. Restores the training weights."""
    saved = {name: {k: v.clone() for k, v in module.state_dict().items()} for name, module in modules.items()}
    _load_average(modules, average)
    for module in modules.values():
        module.eval()
    with torch.no_grad():
        metrics = check()
    for name, module in modules.items():
        module.load_state_dict(saved[name])
        module.train()
    return metrics
