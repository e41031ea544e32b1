"""How a step is measured: seconds, counted operations, the machine's rate of matrix products beside it, and peak memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hybridbooth_core.models.peak_memory import PeakMemory, watch_peak

TERA, GIGA = 1e12, 1e9


def counting() -> FlopCounterMode:
    """Counts floating-point operations, a multiply-add as two; of oneDNN's products too, which torch's table lacks."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: _linear_operations})


def _linear_operations(x: Sequence[int], weight: Sequence[int], *rest: Any, **more: Any) -> int:
    return 2 * prod(x) * weight[0]


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def product_rates(device: torch.device, dtype: torch.dtype, side: int, repeats: int = 3) -> dict[str, list[float]]:
    """GFLOP/s of torch's product of large square matrices (`mm`)."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    torch.mm(a, b)
    return {"mm": [2 * side**3 / seconds_of(lambda: a @ b, device) / GIGA for _ in range(repeats)]}


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    return {"median": round(statistics.median(values), digits), "min": round(min(values), digits), "max": round(max(values), digits)}


class Meter:
    """Collects what one row of the results says. The machine's rate is taken beside every timed run, in turns with it."""

    def __init__(self, device: torch.device, dtype: torch.dtype, side: int):
        self.device, self.dtype, self.side = device, dtype, side
        self.seconds: list[float] = []
        self.others: list[float] = []
        self.rates: dict[str, list[float]] = {}
        self.operations = 0
        self.used = watch_peak(device)
        self.memory: PeakMemory | None = None

    def rate(self) -> None:
        for name, found in product_rates(self.device, self.dtype, self.side).items():
            self.rates.setdefault(name, []).extend(found)

    def row(self) -> dict[str, Any]:
        """Ready for JSON.

        `floor_fraction` is (operations / rate) / seconds: how much of the time torch's own product of large matrices would take for as
        many operations; `floor_fraction_fastest` the same for the fastest product at hand.
        """
        middle = statistics.median(self.seconds)
        row: dict[str, Any] = {
            "seconds": spread(self.seconds),
            "repeats": len(self.seconds),
            "tflop": round(self.operations / TERA, 6),
            "product_gflops": {name: spread(found, 1) for name, found in self.rates.items()},
        }
        for name, found in self.rates.items():
            share = self.operations / GIGA / statistics.median(found) / middle
            row["floor_fraction" if name == "mm" else f"floor_fraction_{name}"] = round(share, 3)
        if self.memory is not None:
            whole = "process" if self.device.type == "cpu" else "device"
            row["peak_memory_gb"] = {whole: round(self.memory.total / GIGA, 2), "grown": round(self.memory.grown / GIGA, 2)}
        if self.others:
            row["bare_seconds"] = spread(self.others)
            row["ratio_to_bare"] = round(statistics.median(s / o for s, o in zip(self.seconds, self.others, strict=True)), 3)
        return row


def measured(step: Callable[[], Any], meter: Meter, repeats: int, beside: Callable[[], Any] | None = None) -> dict[str, Any]:
    """A step that can be called: its first run is counted and finds the peak, then it, `beside` and products take turns."""
    with counting() as counter:
        step()
    meter.operations, meter.memory = counter.get_total_flops(), meter.used()
    if beside:
        beside()
    meter.rate()
    for _ in range(repeats):
        meter.seconds.append(seconds_of(step, meter.device))
        if beside:
            meter.others.append(seconds_of(beside, meter.device))
        meter.rate()
    return meter.row()


class _Enough(Exception):
    """Ends a training that has been measured."""


def measured_training(train: Callable[[Callable[..., None]], Any], meter: Meter, repeats: int, calls: int = 1) -> dict[str, Any]:
    """A training that takes steps by itself: `train(on_step)`, which calls `on_step` `calls` times after every step."""
    counter = counting()
    captured, began = 0, 0.0

    def on_step(*_: Any) -> None:
        nonlocal captured, began
        captured += 1
        if captured % calls:
            return
        if meter.device.type == "cuda":
            torch.cuda.synchronize(meter.device)
        if captured == calls:
            counter.__exit__(None, None, None)
            meter.operations = counter.get_total_flops()
        else:
            meter.seconds.append(time.perf_counter() - began)
        meter.memory = meter.used()
        meter.rate()
        if len(meter.seconds) == repeats:
            raise _Enough
        began = time.perf_counter()

    counter.__enter__()
    with suppress(_Enough):
        train(on_step)
    return meter.row()
