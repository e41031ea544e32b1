"""Freed memory that stays with the process for a while, so that it is not asked from the system anew for every tensor.

PyTorch keeps no store of freed memory on the CPU. glibc gives large pieces back as soon as they are freed, and the system clears every
page that it hands out again: a large network spends as long on that as on its arithmetic (see benchmarks/refine_sd15.py).
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # of mallopt(3)
NO_MAPPINGS, NEVER = 0, (1 << 31) - 1
# mallopt ends glibc's adaptation to large pieces for good, so what is left behind is where that adaptation ends
ADAPTED = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20}

_open = 0


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc" else None


@contextmanager
def kept_memory(device: torch.device) -> Iterator[None]:
    """While open, what work on `device` frees stays for its next tensor; at the end all of it goes back to the system.

    It may be opened within itself; the outermost counts. It does nothing for other devices than the CPU, whose memory PyTorch keeps
    itself, and where the C library is not glibc.
    """
    global _open
    libc = _glibc()
    if libc is None or device.type != "cpu":
        yield
        return
    if _open == 0:
        libc.mallopt(MMAP_MAX, NO_MAPPINGS)
        libc.mallopt(TRIM_THRESHOLD, NEVER)
    _open += 1
    try:
        yield
    finally:
        _open -= 1
        if _open == 0:
            for option, value in ADAPTED.items():
                libc.mallopt(option, value)
            libc.malloc_trim(0)
