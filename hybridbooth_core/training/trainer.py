"""The steps of a training, in one process or many, from any checkpoint on."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import UserError
from ..files.atomic import write_atomic
from ..models.checkpointing import checkpointed
from ..models.memory import MemoryPlan, use_plan
from ..probe.probe import Probe
from ..probe.regressors import Regressor
from .batch import Batch, DataShard
from .callbacks import Callbacks
from .checkpoint import held, last_good, load_checkpoint, refuse_begun, save_checkpoint, writing
from .config import TrainConfig, from_json, to_json
from .context import TrainingContext
from .distributed import DistributedEnv
from .metrics import MetricsLogger, Throughput
from .objective import objective, times_and_noise
from .optimizer import Average, Optimizer, rate_at
from .prefetcher import Prefetcher
from .validation import Validation, verdict

CONFIG, BOARDS = "config.json", "grids"
LEAST_SCALE = 1.0  # of fp16: a gradient that is too large even unscaled is no matter of scale

log = logging.getLogger("hybridbooth")


class Trainer:
    """One training of one probe, whose weights it changes in place.

    Everything a step sees depends on the seed and the step alone, and everything else is in the checkpoint, so that going on from one is as
    never having stopped.
    """

    def __init__(
        self,
        config: TrainConfig,
        context: TrainingContext,
        probe: Probe,
        callbacks: Callbacks | None = None,
        processes: DistributedEnv | None = None,
    ):
        """UserError if the batch does not divide among the processes."""
        self.config, self.context, self.probe, self.callbacks = config, context, probe, callbacks or Callbacks()
        self.processes = processes or DistributedEnv.alone(context.model.device)
        self.share = DataShard(config.batch, config.micro_batch, self.processes.rank, self.processes.world)
        self.accumulation = config.accumulation(self.processes.world)
        o = config.optim
        probe.to(context.model.device).requires_grad_(True).train()
        if probe.learned_optimizer is not None:
            probe.learned_optimizer.requires_grad_(False)  # learned steps are no part of the guess, and have a training of their own
        self.wrapped = self.processes.wrap(probe)
        self.optimizer = Optimizer([probe], o.lr, o.muon_lr if o.kind == "muon" else None, o.weight_decay, clip=o.clip)
        self.average = Average(probe.state_dict(), o.ema)
        self.scaler = torch.amp.GradScaler(context.model.device.type) if config.dtype == "float16" else None
        self.step, self.window, self.first = 0, [], None

    def run(self, resume: bool = False) -> Probe:
        """Train to the end; what is complete already is only loaded.

        Returns:
            The probe with the moving average of its weights, in eval mode and frozen.
        Raises:
            UserError: the folder holds another training, or one that is at work; the disk refuses, a shard is missing, or a number is no
                longer finite. The checkpoints in the folder stay as they are.
        """
        folder = self.config.out
        with held(folder) if self.processes.main else nullcontext():
            self._begin(folder, resume)
            if self.step < self.config.steps:
                self._train(folder)
            self.processes.wait()
        self.probe.load_state_dict(self.average.weights)
        return self.probe.eval().requires_grad_(False)

    def _train(self, folder: Path) -> None:
        main, log, steps = self.processes.main, self.config.log, self.config.steps
        records = MetricsLogger(folder, self.step) if main else None
        bar = tqdm(total=steps, initial=self.step, desc="probe", mininterval=5, dynamic_ncols=True, disable=not main)
        feed = Prefetcher(self.context.source.batches(self.step, self.share))
        try:
            validation = Validation(self.config, self.context) if main else None
            if self.step == 0 and validation:
                self.first = validation.rows(self.averaged())
            meter = Throughput(self.config.batch, self.context.model.device)
            while self.step < steps:
                self.window.append(self.one_step(feed))
                bar.update()
                last = self.step == steps
                if self.step % log.log_every == 0 or last:
                    self._write(records, bar, {**self._mean(), **meter.row(self.step, feed.waited)})
                    self.window = []
                judged = self.step % log.validate_every == 0 or last or self.step == self._early()
                drawn = log.grid_every and (self.step % log.grid_every == 0 or last)
                if judged or drawn:
                    if validation:
                        probe = self.averaged()
                        if judged:
                            self._write(records, bar, self._validate(validation, probe))
                        if drawn and self.callbacks.grid:
                            self._draw(self.callbacks.grid, folder, probe)
                    meter.pause()
                if self.step % log.save_every == 0 or last:
                    self._save(folder)
                    meter.pause()
        finally:
            feed.close()
            bar.close()
            if records:
                records.close()

    def one_step(self, feed: Prefetcher[Batch]) -> dict[str, float]:
        """One update of the weights; the losses, as means over all processes. What is not finite changes nothing.

        With fp16 a gradient may be too large now and then: the step is left out and the next loss is scaled less.

        Raises:
            UserError: a loss or gradient is not finite.
        """
        sums = torch.zeros(4, dtype=torch.float64)
        for micro in range(self.accumulation):
            batch = feed.next()
            with self.processes.adding_up(self.wrapped, last=micro == self.accumulation - 1):
                sums += self._backward(batch) / self.accumulation
        total, denoising, attention, length = self.processes.mean(sums).tolist()
        self._demand(math.isfinite(total), "loss", total)
        rate = rate_at(self.step, self.config.steps, self.config.optim.warmup, self.config.optim.decay)
        norm = self.optimizer.step(rate, self.scaler)
        if math.isfinite(norm):
            self.average.update(self.probe.state_dict(), self.step)
        else:
            self._demand(self.scaler is not None and self.scaler.get_scale() >= LEAST_SCALE, "gradient", norm)
        self.step += 1
        return {"loss": total, "denoising": denoising, "attention": attention, "length": length, "grad_norm": norm, "rate": rate}

    def _backward(self, batch: Batch) -> Tensor:
        """Gradients of a micro-batch; its four losses, float64."""
        config, model = self.config, self.context.model
        dtype, plan = config.torch_dtype, MemoryPlan(config.checkpointing, len(batch.rows), model.image_size)
        blocks = cast(Regressor, self.probe.regressor).blocks() if config.checkpointing else ()
        with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32), use_plan(model, plan):
            inputs = self.context.inputs(self.probe, batch)
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
        if not fine:
            raise UserError(
                f"the {what} is {value} at step {self.step}; {last_good(self.config.out)}: lower --optim.lr (now "
                f"{self.config.optim.lr:g}), or take --dtype bfloat16 in place of float16, and go on with --resume or start anew"
            )

    def averaged(self) -> Probe:
        """A copy of the probe with the averaged weights, as it would be exported."""
        with torch.device("meta"):
            made = Probe(self.probe.config)
        weights = {name: tensor.to(self.context.model.device, copy=True) for name, tensor in self.average.weights.items()}
        made.load_state_dict(weights, assign=True)
        return made.eval().requires_grad_(False)

    def _early(self) -> int:
        return max(self.config.steps // 100, 1)

    def _validate(self, validation: Validation, probe: Probe) -> dict[str, Any]:
        rows = validation.rows(probe)
        row: dict[str, Any] = {"validation": rows.mean().item(), "validation_noun": validation.noun.mean().item()}
        if self.step == self._early() and self.first is not None and len(self.first) == len(rows):  # resumed, it may look at more images
            said = verdict(self.first, rows, validation.noun, self.step)
            row |= {"go": said.go, "said": said.line}
            log.info("%s", said.line) if said.go else log.warning("%s", said.line)
        if self.callbacks.check:
            row |= self.callbacks.check(probe)
        return row

    def _draw(self, grid: Callable[[Probe, Path], None], folder: Path, probe: Probe) -> None:
        with writing(folder):
            (folder / BOARDS).mkdir(exist_ok=True)
            grid(probe, folder / BOARDS / f"step-{self.step:08d}.png")

    def _mean(self) -> dict[str, float]:
        return {name: math.fsum(row[name] for row in self.window) / len(self.window) for name in self.window[0]}

    def _write(self, records: MetricsLogger | None, bar: tqdm, row: dict[str, Any]) -> None:
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
        if not resume:
            refuse_begun(folder)
        if resume and (state := load_checkpoint(folder)):
            self._restore(state)
        if not self.processes.agree(self.step):
            raise UserError(f"the processes find different checkpoints in {folder}; it must be one folder that all of them see")
        if self.processes.main:
            with writing(folder):
                write_atomic(folder / CONFIG, json.dumps(to_json(self.config), indent=2) + "\n", durable=True)

    def _save(self, folder: Path) -> None:
        if not self.processes.main:
            return
        device = self.context.model.device
        state = {
            "config": json.dumps(to_json(self.config)),
            "probe_config": json.dumps(asdict(self.probe.config)),
            "probe": self.probe.state_dict(),
            "average": self.average.weights,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "rng": torch.get_rng_state(),
            "device_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "position": self.step * self.config.batch,
            "window": self.window,
            "first": self.first,
        }
        save_checkpoint(folder, self.step, state, self.config.log.keep)

    def _restore(self, state: dict[str, Any]) -> None:
        self._compare(to_json(from_json(json.loads(state["config"]))), to_json(self.config))
        if state["step"] > self.config.steps:
            raise UserError(f"the training in {self.config.out} is at step {state['step']} already; choose --steps from there on")
        try:
            self.probe.load_state_dict(state["probe"])
            self.average.load(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"the weights in {self.config.out} are of another probe than this one; start anew in another folder") from error
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if state.get("device_rng") is not None and self.context.model.device.type == "cuda":
            torch.cuda.set_rng_state(state["device_rng"], self.context.model.device)
        self.step, self.window, self.first = state["step"], state["window"], state["first"]
        if self.processes.main:
            log.info("going on at step %d of %d", self.step, self.config.steps)

    def _compare(self, began: dict[str, Any], now: dict[str, Any]) -> None:
        """What a training was begun with, and what it is to go on with."""
        changed = [name for name in now if name not in FREE and began[name] != now[name]]
        fixed = [name for name in changed if name not in TOLD]
        if began["optim"]["kind"] != now["optim"]["kind"]:
            fixed.append("optim.kind")
        if fixed:
            raise UserError(
                f"the training in {self.config.out} was begun with another {', '.join(fixed)}; go on as it was begun, or start anew"
            )
        if changed and self.processes.main:
            log.warning("from here on with another %s than it was begun with", " and ".join(changed))


FREE = ("out", "steps", "micro_batch", "device", "price", "log", "checkpointing", "encoders")  # may change where a training goes on
TOLD = ("optim", "dtype")  # may change too, so that one that failed can go on
