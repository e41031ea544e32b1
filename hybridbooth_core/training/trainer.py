"""The training loop, in one or several processes, resumable from any checkpoint."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import UserError
from ..files.atomic import write_atomic
from ..models.checkpointing import checkpointed
from ..models.memory import MemoryPlan, use_plan
from ..models.progress import Step
from ..probe.learner import Learner
from ..probe.probe import Probe
from .batch import Batch, DataShard
from .calibration import SUBJECTS, calibrated
from .callbacks import Callbacks
from .checkpoint import describe_last, disk_errors, load_checkpoint, locked, refuse_existing_run, save_checkpoint
from .config import TrainConfig, from_json, to_json
from .context import TrainingContext
from .distributed import DistributedEnv
from .metrics import MetricsLogger, Throughput
from .objective import objective, times_and_noise
from .optimizer import Average, Optimizer, rate_at
from .prefetcher import Prefetcher
from .validation import Validation, verdict

CONFIG, GRIDS = "config.json", "grids"
MIN_SCALE = 1.0  # of float16 gradients; below it, scaling is not the problem

log = logging.getLogger("hybridbooth")

L = TypeVar("L", bound=Learner)


class Trainer(Generic[L]):
    """Trains a learner, such as a probe, in place.

    The data and noise of a step depend on the seed and the step only, and checkpoints hold everything else, so a resumed training gives
    the same result as an uninterrupted one.
    """

    def __init__(
        self,
        config: TrainConfig,
        context: TrainingContext,
        learner: L,
        callbacks: Callbacks | None = None,
        processes: DistributedEnv | None = None,
    ):
        """UserError if the batch is not divisible among the processes."""
        self.config, self.context, self.learner, self.callbacks = config, context, learner, callbacks or Callbacks()
        self.processes = processes or DistributedEnv.alone(context.model.device)
        self.shard = DataShard(config.batch, config.micro_batch, self.processes.rank, self.processes.world)
        self.accumulation = config.accumulation(self.processes.world)
        o = config.optim
        learner.to(context.model.device).requires_grad_(True).train()
        self.wrapped = self.processes.wrap(learner)
        self.optimizer = Optimizer([learner], o.lr, o.muon_lr if o.kind == "muon" else None, o.weight_decay, clip=o.clip)
        self.average = Average(learner.state_dict(), o.ema)
        self.scaler = torch.amp.GradScaler(context.model.device.type) if config.dtype == "float16" else None
        self.step, self.window, self.first = 0, [], None

    def run(self, resume: bool = False) -> L:
        """Trains to the last step, or only loads a training that is complete.

        Returns:
            The learner with the averaged weights, frozen and in eval mode.
        Raises:
            UserError: the folder contains another training or one that is running; the disk is full; a shard is missing; or a loss or
                gradient is not finite. Existing checkpoints remain.
        """
        folder = self.config.out
        with locked(folder) if self.processes.main else nullcontext():
            self._start(folder, resume)
            if self.step < self.config.steps:
                self._train(folder)
            self.processes.wait()
        self.learner.load_state_dict(self.average.weights)
        return self.learner.eval().requires_grad_(False)

    def _train(self, folder: Path) -> None:
        main, log, steps = self.processes.main, self.config.log, self.config.steps
        logger = MetricsLogger(folder, self.step) if main else None
        bar = tqdm(total=steps, initial=self.step, desc=self.learner.kind, mininterval=5, dynamic_ncols=True, disable=not main)
        batches = Prefetcher(self.context.source.batches(self.step, self.shard))
        try:
            validation = Validation(self.config, self.context) if main else None
            if self.step == 0 and validation:
                self.first = validation.rows(self.averaged())
            throughput = Throughput(self.config.batch, self.context.model.device)
            while self.step < steps:
                latest = self.one_step(batches)
                self.window.append(latest)
                bar.update()
                last = self.step == steps
                if self.step % log.log_every == 0 or last:
                    self._log(logger, bar, {**self._mean(), **throughput.row(self.step, batches.waited)})
                    self.window = []
                validates = self.step % log.validate_every == 0 or last or self.step == self._early()
                draws = log.grid_every and (self.step % log.grid_every == 0 or last)
                if validates or draws:
                    if validation:
                        learner = self.averaged()
                        if validates:
                            self._log(logger, bar, self._validate(validation, learner))
                        if draws and self.callbacks.grid:
                            self._draw(self.callbacks.grid, folder, learner)
                    throughput.pause()
                if last and validation and self.callbacks.grid_content and isinstance(self.learner, Probe):
                    subjects = self.callbacks.grid_content(SUBJECTS).subjects
                    self.learner.config = calibrated(self.context, cast(Probe, self.averaged()), subjects).config
                if self.step % log.save_every == 0 or last:
                    self._save(folder)
                    throughput.pause()
                if main and self.callbacks.on_step:
                    self.callbacks.on_step(Step(self.step, steps, latest["loss"]))
        finally:
            batches.close()
            bar.close()
            if logger:
                logger.close()

    def one_step(self, batches: Prefetcher[Batch]) -> dict[str, float]:
        """One optimizer step. Returns losses, gradient norm and learning-rate factor, as means over all processes.

        With float16, steps whose gradients overflow are skipped and lower the scale.

        Raises:
            UserError: a loss or gradient is not finite; no weight has changed.
        """
        sums = torch.zeros(4, dtype=torch.float64)
        for micro in range(self.accumulation):
            batch = batches.next()
            with self.processes.accumulate(self.wrapped, last=micro == self.accumulation - 1):
                sums += self._backward(batch) / self.accumulation
        total, denoising, attention, length = self.processes.mean(sums).tolist()
        self._require(math.isfinite(total), "loss", total)
        rate = rate_at(self.step, self.config.steps, self.config.optim.warmup, self.config.optim.decay)
        norm = self.optimizer.step(rate, self.scaler)
        if math.isfinite(norm):
            self.average.update(self.learner.state_dict(), self.step)
        else:
            self._require(self.scaler is not None and self.scaler.get_scale() >= MIN_SCALE, "gradient", norm)
        self.step += 1
        return {"loss": total, "denoising": denoising, "attention": attention, "length": length, "grad_norm": norm, "rate": rate}

    def _backward(self, batch: Batch) -> Tensor:
        """Adds the gradients of a micro-batch. Returns its four losses, float64 [4]."""
        config, model = self.config, self.context.model
        dtype, plan = config.torch_dtype, MemoryPlan(config.checkpointing, len(batch.rows), model.image_size)
        blocks = self.learner.blocks() if config.checkpointing else ()
        with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32), use_plan(model, plan):
            inputs = self.context.inputs(self.learner, batch)
            t, noise = times_and_noise(
                config.loss, batch, config.batch, tuple(inputs.latents.shape[1:]), len(model.schedule), config.seed, self.step
            )
            at = t.to(model.device), noise.to(inputs.latents)
            with checkpointed(blocks), objective(self.wrapped, model, config.loss, batch, inputs, *at) as losses:
                total = losses.total / self.accumulation
                (self.scaler.scale(total) if self.scaler else total).backward()
        parts = (losses.total, losses.denoising, losses.attention, losses.length)
        return torch.stack([part.detach().double().cpu() for part in parts])

    def _require(self, condition: bool, what: str, value: float) -> None:
        if not condition:
            raise UserError(
                f"the {what} is {value} at step {self.step}; {describe_last(self.config.out)}: lower --optim.lr (now "
                f"{self.config.optim.lr:g}), or use --dtype bfloat16 instead of float16, and continue with --resume or start again"
            )

    def averaged(self) -> L:
        """A copy of the learner with the averaged weights, frozen and in eval mode."""
        with torch.device("meta"):
            learner = type(self.learner)(self.learner.config)  # type: ignore[call-arg]
        weights = {name: tensor.to(self.context.model.device, copy=True) for name, tensor in self.average.weights.items()}
        learner.load_state_dict(weights, assign=True)
        return learner.eval().requires_grad_(False)

    def _early(self) -> int:
        return max(self.config.steps // 100, 1)

    def _validate(self, validation: Validation, learner: L) -> dict[str, Any]:
        rows = validation.rows(learner)
        row: dict[str, Any] = {"validation": rows.mean().item(), "validation_noun": validation.noun.mean().item()}
        if self.step == self._early() and self.first is not None and len(self.first) == len(rows):  # a resumed run may use more images
            found = verdict(self.first, rows, validation.noun, self.step)
            row |= {"go": found.go, "said": found.line}
            log.info("%s", found.line) if found.go else log.warning("%s", found.line)
        if self.callbacks.check:
            row |= self.callbacks.check(learner)
        return row

    def _draw(self, grid: Callable[[Any, Path], None], folder: Path, learner: L) -> None:
        with disk_errors(folder):
            (folder / GRIDS).mkdir(exist_ok=True)
            grid(learner, folder / GRIDS / f"step-{self.step:08d}.png")

    def _mean(self) -> dict[str, float]:
        return {name: math.fsum(row[name] for row in self.window) / len(self.window) for name in self.window[0]}

    def _log(self, logger: MetricsLogger | None, bar: tqdm, row: dict[str, Any]) -> None:
        if logger:
            logger.write({"step": self.step, **row})
            shown = {
                k: f"{v:.4g}"
                for k, v in row.items()
                if isinstance(v, float) and k in ("loss", "validation", "samples_per_second", "memory_gb")
            }
            bar.set_postfix(shown, refresh=False)

    def _start(self, folder: Path, resume: bool) -> None:
        """Writes config.json; restores the newest checkpoint if `resume`."""
        if not resume:
            refuse_existing_run(folder)
        if resume and (state := load_checkpoint(folder)):
            self._restore(state)
        if not self.processes.agree(self.step):
            raise UserError(f"the processes see different checkpoints in {folder}; use a folder that all of them share")
        if self.processes.main:
            with disk_errors(folder):
                write_atomic(folder / CONFIG, json.dumps(to_json(self.config), indent=2) + "\n", durable=True)

    def _save(self, folder: Path) -> None:
        if not self.processes.main:
            return
        device = self.context.model.device
        state = {
            "config": json.dumps(to_json(self.config)),
            "learner": self.learner.kind,
            "probe_config": json.dumps(asdict(self.learner.config)),
            "probe": self.learner.state_dict(),
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
            raise UserError(f"the training in {self.config.out} is already at step {state['step']}; choose --steps of at least that")
        try:
            if isinstance(self.learner, Probe):
                stored = json.loads(state["probe_config"])
                measured = {"gradient_norms": tuple(stored.get("gradient_norms", ())), "weak": stored.get("weak", False)}
                self.learner.config = replace(self.learner.config, **measured)
            self.learner.load_state_dict(state["probe"])
            self.average.load(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"the weights in {self.config.out} belong to a different {self.learner.kind}; start again in another folder"
            ) from error
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if state.get("device_rng") is not None and self.context.model.device.type == "cuda":
            torch.cuda.set_rng_state(state["device_rng"], self.context.model.device)
        self.step, self.window, self.first = state["step"], state["window"], state["first"]
        if self.processes.main:
            log.info("resuming at step %d of %d", self.step, self.config.steps)

    def _compare(self, stored: dict[str, Any], now: dict[str, Any]) -> None:
        """UserError if settings that must not change differ from the stored configuration."""
        changed = [name for name in now if name not in FREE and stored[name] != now[name]]
        fixed = [name for name in changed if name not in WARNED]
        if stored["optim"]["kind"] != now["optim"]["kind"]:
            fixed.append("optim.kind")
        if fixed:
            raise UserError(
                f"the training in {self.config.out} was started with another {', '.join(fixed)}; leave the setting out, or start a new one"
            )
        if changed and self.processes.main:
            log.warning("resuming with a changed setting: %s", " and ".join(changed))


FREE = ("out", "steps", "micro_batch", "device", "price", "log", "checkpointing", "encoders")  # settings that may change on resume
WARNED = ("optim", "dtype")  # may change too, so that a failed training can continue
