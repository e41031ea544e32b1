"""How a step is measured: its seconds against those of a bare pass, counted operations, the rate of matrix products, and peak memory."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from hybridbooth_core.models.peak_memory import process_peak, watch_peak

from ..counting import counting

TERA, GIGA = 1e12, 1e9


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Wall time."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def clock(device: torch.device) -> float:
    """A time in seconds to take differences of.

    On the CPU the processor time of this process, all its threads together, since other work on the machine does not count there; else the
    wall time at which the device has done its work.
    """
    if device.type == "cpu":
        return time.process_time()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds by `clock`."""
    began = clock(device)
    work()
    return clock(device) - began


def product_rates(device: torch.device, dtype: torch.dtype, side: int, repeats: int = 3) -> list[float]:
    """GFLOP/s of torch's product of large square matrices (`mm`)."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    torch.mm(a, b)
    return [2 * side**3 / timed(lambda: a @ b, device) / GIGA for _ in range(repeats)]


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    return {"median": round(statistics.median(values), digits), "min": round(min(values), digits), "max": round(max(values), digits)}


def free_bytes() -> float:
    """Memory that a process may still take; infinite where the system does not say."""
    listing = Path("/proc/meminfo")
    rows = listing.read_text().splitlines() if listing.exists() else []
    return next((int(row.split()[1]) * 1024 for row in rows if row.startswith("MemAvailable:")), float("inf"))


class Meter:
    """Collects what one row of the results says.

    Timed runs take turns with `beside` (the bare pass, if there is one) and with large products, so that all three see the same machine.
    Seconds are those of `clock`.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, side: int, beside: Callable[[], Any] | None = None):
        self.device, self.dtype, self.side, self.beside = device, dtype, side, beside
        self.seconds: list[float] = []
        self.bare: list[float] = []
        self.rates: list[float] = []
        self.operations = 0
        self.used = watch_peak(device)
        self.memory: dict[str, float] = {}

    def add(self, seconds: float) -> None:
        """Note a timed run; then run what it is compared with. The first bare pass warms up and comes after the peak has been read."""
        if not self.seconds:
            self.memory = self._peak()
            if self.beside:
                self.beside()
        self.seconds.append(seconds)
        if self.beside:
            self.bare.append(timed(self.beside, self.device))
        self.rates += product_rates(self.device, self.dtype, self.side)

    def _peak(self) -> dict[str, float]:
        """GB: the peak of this process (which runs this row alone) or of the device, and if known how far the row raised it."""
        use = self.used()
        if self.device.type != "cpu":
            found = {} if use is None else {"device": use.total}
        else:
            found = {} if platform.system() == "Windows" else {"process": process_peak()}
        return {name: round(size / GIGA, 2) for name, size in (found | ({"grown": use.grown} if use else {})).items()}

    def row(self) -> dict[str, Any]:
        """Ready for JSON.

        `floor_fraction` is (operations / rate) / seconds: the share of the time that torch's own product of large matrices would take for
        as many operations. `ratio_to_bare` is the median of the timed runs' ratios to the bare pass that followed each.
        """
        middle = statistics.median(self.seconds)
        row: dict[str, Any] = {
            "seconds": spread(self.seconds),
            "repeats": len(self.seconds),
            "tflop": round(self.operations / TERA, 6),
            "product_gflops": {"mm": spread(self.rates, 1)},
            "floor_fraction": round(self.operations / GIGA / statistics.median(self.rates) / middle, 3),
        }
        if self.memory:
            row["peak_memory_gb"] = self.memory
        if self.bare:
            ratios = spread([mine / bare for mine, bare in zip(self.seconds, self.bare, strict=True)], 3)
            row |= {"bare_seconds": spread(self.bare), "ratio_to_bare": ratios["median"], "ratio_range": [ratios["min"], ratios["max"]]}
        return row


def measured(step: Callable[[], Any], meter: Meter, repeats: int) -> dict[str, Any]:
    """A step that can be called: its first run is counted, the others are timed."""
    with counting() as counter:
        step()
    meter.operations = counter.get_total_flops()
    for _ in range(repeats):
        meter.add(timed(step, meter.device))
    return meter.row()


class _Enough(Exception):
    """Ends a training that has been measured."""


def measured_training(train: Callable[[Callable[..., None]], Any], meter: Meter, repeats: int, calls: int = 1) -> dict[str, Any]:
    """A training that takes steps by itself: `train(on_step)`, which calls `on_step` `calls` times after every step."""
    counter = counting()
    called, began = 0, 0.0

    def on_step(*_: Any) -> None:
        nonlocal called, began
        called += 1
        if called % calls:
            return
        if called == calls:
            counter.__exit__(None, None, None)
            meter.operations = counter.get_total_flops()
        else:
            meter.add(clock(meter.device) - began)
        if len(meter.seconds) == repeats:
            raise _Enough
        began = clock(meter.device)

    counter.__enter__()
    with suppress(_Enough):
        train(on_step)
    return meter.row()
