"""The steps of a training, in one process or many, from any checkpoint on."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..checkpointing import checkpointed
from ..effort import Effort, working
from ..errors import UserError
from ..peak import watch_peak
from ..probe import Probe
from .batch import Batch, Share
from .checkpoint import checkpoints, load_checkpoint, save_checkpoint
from .config import TrainConfig, to_json
from .feed import Feed
from .objective import objective, times_and_noise
from .optimizer import Average, Optimizer, rate_at
from .processes import Processes
from .records import Records
from .setting import Setting
from .validation import Validation, verdict

CONFIG, BOARDS = "config.json", "boards"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

log = logging.getLogger("hybridbooth")


@dataclass(frozen=True)
class Extras:
    """What else is looked at on the way: more numbers at each validation, and a picture."""

    check: Callable[[Probe], dict[str, float]] | None = None
    board: Callable[[Probe, Path], None] | None = None


class Trainer:
    """One training of one probe, whose weights it changes in place.

    After `run` the probe holds the moving average of its weights, in eval mode and frozen. Everything a step sees depends on the seed and
    the step alone, and everything else is in the checkpoint, so that going on from one is as never having stopped.
    """

    def __init__(self, config: TrainConfig, setting: Setting, probe: Probe, extras: Extras = Extras(), processes: Processes | None = None):
        self.config, self.setting, self.probe, self.extras = config, setting, probe, extras
        self.processes = processes or Processes.alone(setting.model.device)
        self.share = Share(config.batch, config.micro_batch, self.processes.rank, self.processes.world)
        self.accumulation = config.accumulation(self.processes.world)
        self.wrapped = self.processes.wrap(probe.to(setting.model.device).requires_grad_(True).train())
        o = config.optim
        self.optimizer = Optimizer([probe], o.lr, o.muon_lr if o.kind == "muon" else None, o.weight_decay, clip=o.clip)
        self.average = Average(probe.state_dict(), o.ema)
        self.scaler = torch.amp.GradScaler(setting.model.device.type) if config.precision == "fp16" else None
        self.step, self.window, self.first = 0, [], None

    def run(self, resume: bool = False) -> Probe:
        """Train to the end.

        Raises:
            UserError: the folder holds another training, the disk refuses, a shard is missing, or a number is no longer finite; the
                checkpoints in the folder stay as they are.
        """
        folder = self.config.out
        self._begin(folder, resume)
        records = Records(folder, self.step) if self.processes.main else None
        validation = Validation(self.config, self.setting) if self.processes.main else None
        if validation and self.first is None:
            self.first = validation.rows(self.averaged())
        feed = Feed(self.setting.source.batches(self.step, self.share))
        bar = tqdm(
            total=self.config.steps, initial=self.step, desc="probe", mininterval=5, dynamic_ncols=True, disable=not self.processes.main
        )
        meter = Meter(self.config, self.setting.model.device)
        try:
            while self.step < self.config.steps:
                losses = self.one_step(feed)
                self.window.append(losses)
                bar.update()
                watch, last = self.config.watch, self.step == self.config.steps
                if self.step % watch.log_every == 0 or last:
                    self._write(records, bar, {**self._mean(), **meter.row(self.step, feed.waited)})
                    self.window = []
                if validation and (self.step % watch.validate_every == 0 or last or self.step == self._early()):
                    self._write(records, bar, self._validate(validation))
                    meter.pause()
                if self.extras.board and self.processes.main and watch.board_every and (self.step % watch.board_every == 0 or last):
                    self._draw(folder)
                    meter.pause()
                if self.step % watch.save_every == 0 or last:
                    self._save(folder)
                    meter.pause()
                self.processes.wait()
        finally:
            feed.close()
            bar.close()
            if records:
                records.close()
        self.probe.load_state_dict(self.average.weights)
        return self.probe.eval().requires_grad_(False)

    def one_step(self, feed: Feed[Batch]) -> dict[str, float]:
        """One update of the weights; the losses, as means over all processes.

        Raises:
            UserError: a loss or gradient is not finite.
        """
        sums = torch.zeros(4, dtype=torch.float64)
        for micro in range(self.accumulation):
            batch = feed.next()
            last = micro == self.accumulation - 1
            with nullcontext() if last else self.processes.no_sync(self.wrapped):
                sums += self._backward(batch) / self.accumulation
        total, denoising, attention, length = self.processes.mean(sums).tolist()
        self._demand(math.isfinite(total), "loss", total)
        rate = rate_at(self.step, self.config.steps, self.config.optim.warmup, self.config.optim.decay)
        norm = self.optimizer.step(rate, self.scaler)
        self._demand(math.isfinite(norm) or self.scaler is not None, "gradient", norm)
        if math.isfinite(norm):
            self.average.update(self.probe.state_dict(), self.step)
        self.step += 1
        return {"loss": total, "denoising": denoising, "attention": attention, "length": length, "grad_norm": norm, "rate": rate}

    def _backward(self, batch: Batch) -> Tensor:
        """Gradients of a micro-batch; its four losses, float64."""
        config, model = self.config, self.setting.model
        precision, effort = DTYPES.get(config.precision), Effort(config.checkpointing, len(batch.rows), model.picture_size)
        blocks = self.probe.regressor.blocks() if config.checkpointing else ()
        with torch.autocast(model.device.type, precision, enabled=precision is not None), working(model, effort):
            inputs = self.setting.inputs(self.probe, batch)
            t, noise = times_and_noise(
                config.loss, batch, config.batch, tuple(inputs.latents.shape[1:]), len(model.schedule), config.seed, self.step
            )
            with checkpointed(blocks):
                losses = objective(self.wrapped, model, config.loss, batch, inputs, t.to(model.device), noise.to(inputs.latents))
            total = losses.total / self.accumulation
            (self.scaler.scale(total) if self.scaler else total).backward()
        parts = (losses.total, losses.denoising, losses.attention, losses.length)
        return torch.stack([part.detach().double().cpu() for part in parts])

    def _demand(self, fine: bool, what: str, value: float) -> None:
        if fine:
            return
        last = checkpoints(self.config.out)
        kept = f"the last good state is {last[0][1].name}" if last else "nothing was saved yet"
        raise UserError(
            f"the {what} is {value} at step {self.step}; {kept}: lower --optim.lr (now {self.config.optim.lr:g}), or use --precision bf16 "
            "in place of fp16, and train anew or go on with --resume"
        )

    def averaged(self) -> Probe:
        """A copy of the probe with the averaged weights, as it would be exported."""
        made = copy.deepcopy(self.probe)
        made.load_state_dict(self.average.weights)
        return made.eval().requires_grad_(False)

    def _early(self) -> int:
        return max(self.config.steps // 100, 1)

    def _validate(self, validation: Validation) -> dict[str, Any]:
        assert self.first is not None
        probe = self.averaged()
        rows = validation.rows(probe)
        row: dict[str, Any] = {"step": self.step, "validation": rows.mean().item(), "validation_noun": validation.noun.mean().item()}
        if self.step == self._early():
            said = verdict(self.first, rows, validation.noun, self.step)
            row |= {"go": said.go, "said": said.line}
            log.info("%s", said.line) if said.go else log.warning("%s", said.line)
        if self.extras.check:
            row |= self.extras.check(probe)
        return row

    def _draw(self, folder: Path) -> None:
        assert self.extras.board
        (folder / BOARDS).mkdir(exist_ok=True)
        self.extras.board(self.averaged(), folder / BOARDS / f"step-{self.step:08d}.png")

    def _mean(self) -> dict[str, float]:
        return {name: math.fsum(row[name] for row in self.window) / len(self.window) for name in self.window[0]}

    def _write(self, records: Records | None, bar: tqdm, row: dict[str, Any]) -> None:
        if records:
            records.write({"step": self.step, **row})
            shown = {
                k: f"{v:.4g}"
                for k, v in row.items()
                if isinstance(v, float) and k in ("loss", "validation", "samples_per_second", "memory_gb")
            }
            bar.set_postfix(shown, refresh=False)

    def _begin(self, folder: Path, resume: bool) -> None:
        """Make the folder, or go on from what is in it."""
        found = checkpoints(folder)
        if found and not resume:
            raise UserError(
                f"{folder} holds a training already ({found[0][1].name}); go on with --resume {folder}, or choose another --out"
            )
        if resume and (state := load_checkpoint(folder, self.setting.model.device)):
            self._restore(state)
        if self.processes.main:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / CONFIG).write_text(json.dumps(to_json(self.config), indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                raise UserError(f"{folder} cannot be written ({error.strerror}); choose another --out") from error
        self.processes.wait()

    def _save(self, folder: Path) -> None:
        if not self.processes.main:
            return
        state = {
            "config": json.dumps(to_json(self.config)),
            "probe": self.probe.state_dict(),
            "average": self.average.weights,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "rng": torch.get_rng_state(),
            "position": self.step * self.config.batch,
            "window": self.window,
            "first": self.first,
        }
        save_checkpoint(folder, self.step, state, self.config.watch.keep)

    def _restore(self, state: dict[str, Any]) -> None:
        began = json.loads(state["config"])
        changed = [name for name, value in to_json(replace(self.config)).items() if name not in FREE and began.get(name) != value]
        if changed:
            raise UserError(
                f"the training in {self.config.out} was begun with another {', '.join(changed)}; go on as it was begun, or start anew"
            )
        self.probe.load_state_dict(state["probe"])
        self.average.load(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"].cpu())
        self.step, self.window, self.first = state["step"], state["window"], state["first"]
        log.info("going on at step %d of %d", self.step, self.config.steps)


FREE = ("out", "steps", "micro_batch", "device", "price", "watch", "checkpointing")  # may change where a training goes on


class Meter:
    """Samples a second, the share of the time spent waiting for data, and memory, since the last row."""

    def __init__(self, config: TrainConfig, device: torch.device):
        self._batch, self._peak = config.batch, watch_peak(device)
        self._since, self._step, self._waited, self._paused = time.perf_counter(), None, 0.0, False

    def pause(self) -> None:
        """What was done since the last row was no training: it does not count."""
        self._paused = True

    def row(self, step: int, waited: float) -> dict[str, float]:
        now = time.perf_counter()
        spent, steps = now - self._since, step - (self._step or 0)
        row = {}
        if self._step is not None and not self._paused:
            row = {"samples_per_second": steps * self._batch / spent, "waiting": min((waited - self._waited) / spent, 1.0)}
        self._since, self._step, self._waited, self._paused = now, step, waited, False
        use = self._peak()
        return {**row, **({"memory_gb": use.total / 1e9} if use else {})}
