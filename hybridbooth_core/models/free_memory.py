"""How much memory a device has left for a step."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")


def free_memory(device: torch.device) -> int:
    """Bytes that may still be allocated on a device; `sys.maxsize` where the platform does not say, so that nothing is spared in vain."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if device.type == "cpu" and MEMINFO.exists():
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        available = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
        return int(available[0]) * 1024 if available else sys.maxsize
    return sys.maxsize
