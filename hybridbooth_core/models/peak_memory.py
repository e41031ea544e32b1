"""The most memory that a piece of work takes, as the system or the device counts it."""

from __future__ import annotations

import ctypes
import gc
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
    """Begin to watch the memory that work on `device` takes; the function returned says what it came to so far.

    That is None where the platform forgets no earlier peak: on the CPU, anywhere but on Linux.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        return lambda: _use(torch.cuda.max_memory_allocated(device), allocated)
    if device.type != "cpu" or platform.system() != "Linux":
        return lambda: None
    try:
        resident = _fresh()
    except OSError:  # a container may forbid it
        return lambda: None
    return lambda: _use(peak(), resident)


def _use(peak_bytes: int, before: int) -> PeakMemory:
    return PeakMemory(peak_bytes, max(peak_bytes - before, 0))


def fresh_peak() -> int:
    """Give freed memory back and forget this process's peak so far (loading has a higher one); returns the bytes in use."""
    gc.collect()
    return _fresh() if platform.system() == "Linux" else peak()


def _fresh() -> int:
    """The same on Linux, without looking for garbage, which takes a quarter of a second in a large process. OSError if it is forbidden."""
    getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # glibc alone has it
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)
    return _status("VmRSS")


def peak() -> int:
    """The peak resident size of this process in bytes."""
    if platform.system() == "Linux":
        return _status("VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(field: str) -> int:
    """A size out of /proc/self/status, in bytes."""
    line_of = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(f"{field}:"))
    return int(line_of.split()[1]) * 1024
