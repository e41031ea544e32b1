"""A few steps of a training to estimate its memory, time and cost. Nothing is written."""

from __future__ import annotations

import time

from ..models.memory import gigabytes
from ..models.peak_memory import PeakMemory, watch_peak
from ..probe.learner import Learner
from .config import TrainConfig
from .context import TrainingContext
from .distributed import DistributedEnv
from .memory_estimate import Memory, estimate_memory
from .prefetcher import Prefetcher
from .trainer import Trainer

STEPS, SECONDS = 10, 30.0  # at most, for timing; at least two steps


def dry_run(config: TrainConfig, context: TrainingContext, learner: Learner, processes: DistributedEnv) -> None:
    """Prints the estimated memory, runs a few steps, and prints the measured memory, time and cost.

    Raises:
        UserError: as the steps of a training.
    """

    def report(line: str) -> None:
        if processes.main:
            print(line, flush=True)

    learner.to(context.model.device)
    estimate = estimate_memory(context, learner, config, processes.world)
    report(f"estimated memory: {estimate}" + (" in each process" if processes.world > 1 else ""))
    used = watch_peak(context.model.device)
    rate = _samples_per_second(Trainer(config, context, learner, processes=processes))
    report(f"measured memory: {_measured(used(), estimate)}")
    for line in duration(config, rate):
        report(line)


def _samples_per_second(trainer: Trainer) -> float:
    batches = Prefetcher(trainer.context.source.batches(0, trainer.shard))
    try:
        trainer.one_step(batches)  # warm-up
        start, done = time.perf_counter(), 0
        while done < 2 or (done < STEPS and time.perf_counter() - start < SECONDS and trainer.processes.world == 1):
            trainer.one_step(batches)
            done += 1
        return done * trainer.config.batch / (time.perf_counter() - start)
    finally:
        batches.close()


def _measured(use: PeakMemory | None, estimate: Memory) -> str:
    if use is None:
        return "unknown (loading the model took more, or this system does not count it)"
    grown = estimate.total - estimate.weights
    return (
        f"{gigabytes(use.total)} at most (estimated {gigabytes(estimate.total)}, plus Python and its libraries on a CPU), of which "
        f"training took {gigabytes(use.grown)} in addition to the weights (estimated {gigabytes(grown)})"
    )


def duration(config: TrainConfig, rate: float) -> list[str]:
    """Time and cost of the whole training at `rate` samples per second, as lines of text."""
    samples = config.steps * config.batch
    hours = samples / rate / 3600
    lines = [
        f"{rate:.3g} samples a second: {config.steps} steps of {config.batch} are {samples} samples and take {hours:.3g} hours, "
        "without validation and sample grids"
    ]
    if config.price:
        lines.append(f"at {config.price:g} dollars an hour that is {hours * config.price:.3g} dollars")
    else:
        lines.append("for the cost, add --price with the price of this machine in dollars per hour")
    return lines
