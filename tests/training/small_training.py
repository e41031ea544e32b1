"""A training of the miniature that is small enough for tests; as a program, one of several processes, or one that is killed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from hybridbooth_core.bases.training import training_bases
from hybridbooth_core.errors import UserError
from hybridbooth_core.files import atomic
from hybridbooth_core.miniature.bundle import load_miniature
from hybridbooth_core.miniature.training.probe import miniature_context, miniature_probe
from hybridbooth_core.training import checkpoint
from hybridbooth_core.training import metrics as records
from hybridbooth_core.training.callbacks import Callbacks
from hybridbooth_core.training.config import Data, LogConfig, Loss, Optim, ProbeShape, TrainConfig, from_json
from hybridbooth_core.training.distributed import DistributedEnv
from hybridbooth_core.training.memory_estimate import estimate_memory
from hybridbooth_core.training.metrics import read_curve
from hybridbooth_core.training.trainer import Trainer

CONFIG = TrainConfig(
    steps=6,
    batch=2,
    micro_batch=2,
    dtype="float32",
    device="cpu",
    data=Data(neutral=0.3, condition_drop=0.1, background=0),
    probe=ProbeShape("resampler", num_tokens=3, sizes={"layers": 2, "heads": 4, "inner": 32}),
    loss=Loss(times=(0.2, 1.0), mask_weight=0.02),
    optim=Optim(lr=1e-3, warmup=2, decay=0.5, ema=0.9),
    log=LogConfig(log_every=1, validate_every=3, validation_samples=2, grid_every=0, save_every=2, keep=3),
)
KILLED = replace(CONFIG, steps=12, log=replace(CONFIG.log, log_every=3, keep=2))
SHARED = {
    "ddp": {"batch": 4, "micro_batch": 1, "steps": 4},
    "grids": {"batch": 4, "micro_batch": 1, "steps": 4, "log": replace(CONFIG.log, grid_every=2)},
    "promptnet": {"micro_batch": 1, "steps": 1, "checkpointing": True, "probe": ProbeShape("promptnet", num_tokens=3)},
}
MEASURED = ("memory_gb", "samples_per_second", "waiting")
the_miniature = cache(load_miniature)


def trainer_of(
    config: TrainConfig,
    processes: DistributedEnv | None = None,
    callbacks: Callbacks | None = None,
) -> Trainer:
    """The trainer of an untrained probe."""
    m = the_miniature()
    context = miniature_context(config, m.model, m.clip, m.dino)
    probe = miniature_probe(m.model, m.clip, m.dino, config.probe, config.seed)
    return Trainer(config, context, probe, callbacks, processes)


def curve(folder: Path) -> list[dict[str, Any]]:
    """What was written down, without what depends on the machine."""
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in read_curve(folder)]


def together(folder: Path, processes: DistributedEnv) -> None:
    """What several processes do. The last training fails in one of them."""
    told: dict[str, Any] = {"rank": processes.rank, "world": processes.world, "seen": [], "shards": []}
    for name, changes in SHARED.items():
        drawn = Callbacks(grid=lambda probe, path: path.write_text("an image")) if processes.main else None  # as the command does it
        trainer = trainer_of(replace(CONFIG, out=folder / name, **changes), processes, drawn)
        if name == "ddp":
            watch_rows(trainer.context.source, told["seen"])
        torch.save(trainer.run().state_dict(), folder / f"{name}-{processes.rank}.pt")
        if name == "grids":
            sizes = trainer.wrapped._get_ddp_logging_data()["bucket_sizes"]
            told["exchanged"] = [sum(map(int, sizes.split(","))), sum(p.numel() * p.element_size() for p in trainer.learner.parameters())]
            told["estimated"] = [estimate_memory(trainer.context, trainer.learner, trainer.config, world).optimizer for world in (1, 2)]
    trainer = trainer_of(replace(CONFIG, out=folder / "gone_on", micro_batch=1), processes)
    torch.save(trainer.run(resume=True).state_dict(), folder / f"gone_on-{processes.rank}.pt")
    told["nan"] = said(spoilt(trainer_of(replace(CONFIG, out=folder / "nan", micro_batch=1), processes), processes.rank).run)
    shared = from_json(json.loads((folder / "sd15.json").read_text()))
    trainer = Trainer(shared, *training_bases().prepare(shared, torch.device("cpu")), processes)
    watch_rows(trainer.context.source, told["shards"])
    torch.save(trainer.run().state_dict(), folder / f"sd15-{processes.rank}.pt")
    (folder / f"told-{processes.rank}.json").write_text(json.dumps(told))
    processes.wait()
    broken = trainer_of(replace(CONFIG, out=folder / "broken", micro_batch=1), processes)
    if not processes.main:
        stop_after(broken.context.source, 3)
    broken.run()


def said(function: Callable, *arguments: Any) -> str:
    """The message of the UserError that a call ends with."""
    try:
        function(*arguments)
    except UserError as error:
        return str(error)
    return "nothing"


def spoilt(trainer: Trainer, bad: int = 1) -> Trainer:
    """One whose loss at step 3 is NaN, if it is the bad one."""
    backward = trainer._backward
    trainer._backward = lambda batch: backward(batch) * (float("nan") if trainer.step == 3 and bad else 1)
    return trainer


def watch_rows(source: Any, augmented: list[list[str]]) -> None:
    """Note what a source hands out: for each batch, what tells its targets apart."""
    batches = source.batches

    def watched(step, share):
        for batch in batches(step, share):
            augmented.append([hashlib.sha256(row.numpy().tobytes()).hexdigest()[:16] for row in batch.target])
            yield batch

    source.batches = watched


def stop_after(source: Any, count: int) -> None:
    """Let a source come to an end as one whose shard is gone."""
    batches = source.batches

    def some(step, share):
        for number, batch in enumerate(batches(step, share)):
            if number == count:
                raise UserError("shard-000001.tar is missing from here; put it back, or prepare the images again")
            yield batch

    source.batches = some


def killed(folder: Path) -> None:
    """Trainings one after another, each going on in one folder, each in a child of this process that dies at a moment of its own."""
    the_miniature()
    moments = [before_the_configuration, half_a_line, half_a_checkpoint, before_the_new_name, after_the_new_name, full, None]
    for moment in moments:
        begun = len(read_curve(folder))
        child = os.fork()
        if not child:
            _train_and_die(folder, moment)
        if moment is None:
            _kill_some_time(child, folder, begun)
        _, status = os.waitpid(child, 0)
        name = moment.__name__ if moment else "at any time"
        print(json.dumps({"moment": name, "status": status, "files": sorted(path.name for path in folder.iterdir())}), flush=True)


def _train_and_die(folder: Path, moment: Callable[[], None] | None) -> None:
    code = 1
    try:
        trainer = trainer_of(replace(KILLED, out=folder))
        if moment:
            moment()
        trainer.run(resume=True)
        code = 0
    except UserError as error:
        print(json.dumps({"said": str(error)}), flush=True)
        code = 3
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _kill_some_time(child: int, folder: Path, begun: int) -> None:
    end = time.monotonic() + 60
    while (
        len(read_curve(folder)) <= begun
        and time.monotonic() < end
        and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        time.sleep(0.01)
    time.sleep(random.random() * 0.5)
    os.kill(child, signal.SIGKILL)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_the_configuration() -> None:
    atomic.os = Dying("config.json", before=True)


def half_a_line() -> None:
    def cut(file: Any) -> None:
        file.flush()
        os.truncate(file.name, os.path.getsize(file.name) - 20)
        _die()

    records.fsync = cut


def half_a_checkpoint() -> None:
    def half(state: Any, file: Any) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        file.write(buffer.getvalue()[: len(buffer.getvalue()) // 2])
        file.flush()
        _die()

    checkpoint._write = half


def before_the_new_name() -> None:
    atomic.os = Dying("step-00000004.ckpt", before=True)


def after_the_new_name() -> None:
    atomic.os = Dying("step-00000006.ckpt", before=False)


class Dying:
    """The module os, but who renames something to `name` dies."""

    def __init__(self, name: str, before: bool):
        self._name, self._before = name, before

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def replace(self, old: Path, new: Path) -> None:
        if new.name == self._name and self._before:
            _die()
        os.replace(old, new)
        if new.name == self._name:
            _die()


def full() -> None:
    """As on a full disk: no file may be longer than 100 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "killed":
        killed(Path(sys.argv[2]))
    else:
        together(Path(sys.argv[2]), DistributedEnv.launched("cpu"))
