"""A training tried for a few steps: what memory, time and money the whole of it takes. Nothing is written."""

from __future__ import annotations

import time

from ..models.memory import gigabytes
from ..models.peak_memory import PeakMemory, watch_peak
from ..probe.probe import Probe
from .config import TrainConfig
from .context import TrainingContext
from .distributed import DistributedEnv
from .memory_estimate import Memory, estimate_memory
from .prefetcher import Prefetcher
from .trainer import Trainer

STEPS, SECONDS = 10, 30.0  # that are timed, at most; two at least


def dry_run(config: TrainConfig, context: TrainingContext, probe: Probe, processes: DistributedEnv) -> None:
    """Print what is foreseen, take a few steps, and print what was found.

    Raises:
        UserError: what the steps of a training raise.
    """

    def say(line: str) -> None:
        if processes.main:
            print(line, flush=True)

    probe.to(context.model.device)
    foreseen = estimate_memory(context, probe, config, processes.world)
    say(f"estimated memory: {foreseen}" + (" in each process" if processes.world > 1 else ""))
    used = watch_peak(context.model.device)
    rate = _samples_per_second(Trainer(config, context, probe, processes=processes))
    say(f"measured memory: {_measured(used(), foreseen)}")
    for line in duration(config, rate):
        say(line)


def _samples_per_second(trainer: Trainer) -> float:
    feed = Prefetcher(trainer.context.source.batches(0, trainer.share))
    try:
        trainer.one_step(feed)  # which makes room, and finds its ways
        begun, done = time.perf_counter(), 0
        while done < 2 or (done < STEPS and time.perf_counter() - begun < SECONDS and trainer.processes.world == 1):
            trainer.one_step(feed)
            done += 1
        return done * trainer.config.batch / (time.perf_counter() - begun)
    finally:
        feed.close()


def _measured(use: PeakMemory | None, foreseen: Memory) -> str:
    if use is None:
        return "unknown, since loading the model took more, or this system does not count it"
    grown = foreseen.total - foreseen.weights
    return (
        f"{gigabytes(use.total)} at most (estimated {gigabytes(foreseen.total)}, to which Python and its libraries come on a CPU); "
        f"training took {gigabytes(use.grown)} of it beside the weights (estimated {gigabytes(grown)})"
    )


def duration(config: TrainConfig, rate: float) -> list[str]:
    """What a whole training takes at so many samples a second, in lines for a person."""
    samples = config.steps * config.batch
    hours = samples / rate / 3600
    lines = [
        f"{rate:.3g} samples a second: {config.steps} steps of {config.batch} are {samples} samples and take {hours:.3g} hours, "
        "validations and boards not counted"
    ]
    if config.price:
        lines.append(f"at {config.price:g} dollars an hour that is {hours * config.price:.3g} dollars")
    else:
        lines.append("to see what it costs, add --price with the dollars that an hour of this machine costs")
    return lines
