"""The most memory that a piece of work takes, as the system or the device counts it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class PeakMemory:
    """Bytes: the highest use in all (of the process, or of PyTorch on its device), and how far that is above what was used before."""

    total: int
    grown: int


def watch_peak(device: torch.device) -> Callable[[], PeakMemory | None]:
    """Begin to watch the memory that work on `device` takes; the function returned gives the peak so far.

    On the CPU it is the peak of the process, which nobody can reset: None where the work has not raised it, since an earlier peak hides
    the work's own. None as well where the system counts no peak: Windows, and devices other than CPU and CUDA.
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
    """The largest resident size that this process has had, in bytes."""
    if platform.system() == "Linux":
        return _status("VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def resident_size() -> int:
    """The resident size of this process in bytes; where the system does not say, its largest so far."""
    return _status("VmRSS") if platform.system() == "Linux" else process_peak()


def _status(field: str) -> int:
    """A size out of /proc/self/status, in bytes."""
    found = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(f"{field}:"))
    return int(found.split()[1]) * 1024
