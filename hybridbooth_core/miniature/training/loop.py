"""One training loop for every network of the miniature world: seeded by step, resumable at any step, with progress.

A stage's batch of step `i` depends on (seed, stage, i) alone, so a resumed run sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

log = logging.getLogger("hybridbooth")


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage trains. Steps are counted, never timed, so that two machines make the same thing."""

    steps: int
    batch: int
    muon_lr: float = 2.5e-3  # matrices and convolutions
    adam_lr: float = 1.5e-3  # everything else
    warmup: int = 100
    decay: float = 0.6  # the share of the steps at the end over which the rate falls linearly to zero
    ema: float = 0.997
    save_every: int = 500

    def rate(self, step: int) -> float:
        """The learning-rate factor of a step in 0..1."""
        left = (self.steps - step) / max(self.steps * self.decay, 1)
        return min((step + 1) / self.warmup, 1.0, left)


def step_generator(seed: int, stage: str, step: int) -> torch.Generator:
    """The random numbers of one step of one stage. (A CPU generator reads the lower 32 bits of its seed only, so all three are in them.)"""
    mixed = (seed * 0x9E37_79B1) & 0xFFFF_FFFF
    return torch.Generator(torch.get_default_device()).manual_seed(mixed ^ (zlib.crc32(stage.encode()) << 20) ^ step)


class Optimizer:
    """Muon for weights with two or more axes (convolutions flattened to matrices), AdamW for vectors and embedding tables.

    Muon: K. Jordan et al. 2024, torch.optim.Muon, which takes 2-D parameters only; a flattened view shares the storage of the weight.
    """

    def __init__(self, modules: Sequence[nn.Module], schedule: Schedule):
        tables = {id(m.weight) for root in modules for m in root.modules() if isinstance(m, nn.Embedding)}
        weights = [p for root in modules for p in root.parameters() if p.requires_grad]
        self.wide = [p for p in weights if p.ndim >= 2 and id(p) not in tables]
        self.flat = [nn.Parameter(p.data.view(p.shape[0], -1)) for p in self.wide]
        narrow = [p for p in weights if p.ndim < 2 or id(p) in tables]
        self.parameters = weights
        self.muon = torch.optim.Muon(self.flat, lr=schedule.muon_lr, weight_decay=0.01, adjust_lr_fn="original")
        self.adam = torch.optim.AdamW(narrow, lr=schedule.adam_lr, betas=(0.9, 0.99), weight_decay=0.0)
        self.base = (schedule.muon_lr, schedule.adam_lr)

    def step(self, rate: float) -> float:
        """One update at `rate` times the full learning rates; returns the gradient norm before clipping to 1."""
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0).item()
        for optimizer, lr in zip((self.muon, self.adam), self.base, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * rate
        for weight, flat in zip(self.wide, self.flat, strict=True):
            flat.grad = None if weight.grad is None else weight.grad.reshape(flat.shape)
        self.muon.step()
        self.adam.step()
        for weight in self.parameters:
            weight.grad = None
        return norm

    def state_dict(self) -> dict:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


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
    """Train `modules` in place; they end as the moving average of their weights, in eval mode.

    Args:
        loss_of: (generator of this step, step) -> scalar loss with a graph.
        folder: holds `<stage>.ckpt` (resume) and `<stage>.jsonl` (curve); a stage that is complete there is only loaded.
        check: called on the averaged weights every `check_every` steps and at the end; its numbers go to the curve.
    Raises:
        FloatingPointError: the loss or its gradient is not finite; the checkpoint on disk is the last good one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, curve = folder / f"{stage}.ckpt", folder / f"{stage}.jsonl"
    optimizer = Optimizer(list(modules.values()), schedule)
    average = {f"{name}.{key}": value.clone() for name, m in modules.items() for key, value in m.state_dict().items()}
    start = _resume(path, modules, optimizer, average, schedule)
    began, running = time.time(), 0.0
    for module in modules.values():
        module.train()
    with tqdm(total=schedule.steps, initial=start, desc=stage, mininterval=5, dynamic_ncols=True) as bar:
        for step in range(start, schedule.steps):
            loss = loss_of(step_generator(seed, stage, step), step)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss of stage {stage} is {loss.item()} at step {step}; {path} keeps the last good state")
            loss.backward()
            norm = optimizer.step(schedule.rate(step))
            if not math.isfinite(norm):  # a finite loss can have a gradient that is not; what it did must not be saved
                raise FloatingPointError(f"the gradient of stage {stage} is {norm} at step {step}; {path} keeps the last good state")
            _average_into(average, modules, min(schedule.ema, (step + 1) / (step + 10)))
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
                _save({"step": done, "modules": state, "average": average, "optimizer": optimizer.state_dict()}, path)
    _load_average(modules, average)
    for module in modules.values():
        module.eval().requires_grad_(False)


def _resume(path: Path, modules: dict[str, nn.Module], optimizer: Optimizer, average: dict[str, Tensor], schedule: Schedule) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location=torch.get_default_device(), weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    optimizer.load_state_dict(state["optimizer"])
    for key, value in state["average"].items():
        average[key].copy_(value)
    log.info("resuming %s at step %d of %d", path.stem, state["step"], schedule.steps)
    return state["step"]


def _save(state: dict, path: Path) -> None:
    """Atomic: a kill at any moment leaves the old or the new checkpoint, never half of one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


@torch.no_grad()
def _average_into(average: dict[str, Tensor], modules: dict[str, nn.Module], decay: float) -> None:
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            kept = average[f"{name}.{key}"]
            if value.is_floating_point():
                kept.lerp_(value, 1 - decay)
            else:
                kept.copy_(value)


def _load_average(modules: dict[str, nn.Module], average: dict[str, Tensor]) -> None:
    for name, module in modules.items():
        module.load_state_dict({key: average[f"{name}.{key}"] for key in module.state_dict()})


def _on_average(check: Callable[[], dict[str, float]], modules: dict[str, nn.Module], average: dict[str, Tensor]) -> dict[str, float]:
    """The check's numbers with the averaged weights in place, in eval mode; the training weights come back afterwards."""
    kept = {name: {k: v.clone() for k, v in module.state_dict().items()} for name, module in modules.items()}
    _load_average(modules, average)
    for module in modules.values():
        module.eval()
    with torch.no_grad():
        numbers = check()
    for name, module in modules.items():
        module.load_state_dict(kept[name])
        module.train()
    return numbers
