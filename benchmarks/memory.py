"""The most memory that a short piece of work takes on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hybridbooth_core.models.peak_memory import process_peak, resident_size

INTERVAL = 0.001  # seconds between samples

GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Environment of a process whose resident size is to follow what it uses: glibc returns freed memory to the system at once."""


@contextmanager
def sampled_peak() -> Iterator[Callable[[], int]]:
    """Gives a function to call after the work: the largest resident size of this process within the block, in bytes.

    That is the system's own peak where the work raised it. Where an earlier peak hides it, the largest of samples taken every millisecond.
    """
    samples, done, before = [resident_size()], threading.Event(), process_peak()

    def watch() -> None:
        while not done.wait(INTERVAL):
            samples.append(resident_size())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: max(*samples, process_peak() if process_peak() > before else 0)
    finally:
        done.set()
        thread.join()
