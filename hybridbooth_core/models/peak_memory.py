"""Measures peak memory of the process or the CUDA device."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class PeakMemory:
    """Peak memory in bytes, of the process or of PyTorch on its device. `grown` is the increase over the memory used before."""

    total: int
    grown: int


def watch_peak(device: torch.device) -> Callable[[], PeakMemory | None]:
    """Starts a measurement on `device`; returns a function that gives the peak since then, or None if it is unknown.

    On the CPU it is the process's peak, which cannot be reset, so it is unknown unless it has risen. It is also unknown on Windows and on
    devices other than CPU and CUDA.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        return lambda: _peak_memory(torch.cuda.max_memory_allocated(device), allocated)
    if device.type != "cpu" or platform.system() == "Windows":
        return lambda: None
    before, resident = process_peak(), resident_size()

    def raised() -> PeakMemory | None:
        now = process_peak()
        return _peak_memory(now, resident) if now > before else None

    return raised


def _peak_memory(peak: int, before: int) -> PeakMemory:
    return PeakMemory(peak, max(peak - before, 0))


def process_peak() -> int:
    """The process's peak resident size in bytes."""
    if platform.system() == "Linux":
        return _status("VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def resident_size() -> int:
    """The process's resident size in bytes; on systems other than Linux its peak."""
    return _status("VmRSS") if platform.system() == "Linux" else process_peak()


def _status(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    found = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(f"{field}:"))
    return int(found.split()[1]) * 1024
