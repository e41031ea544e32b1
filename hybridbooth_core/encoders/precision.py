"""In which precision a network's weights are held: half only where half is fast, and only if the file holds no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

HALVES = {"F16": torch.float16, "BF16": torch.bfloat16}


def weights_dtype(header: Mapping[str, dict], names: Iterable[str], device: torch.device | str) -> torch.dtype:
    """float16 or bfloat16 if all the named tensors of a file are stored so and the device is CUDA's; float32 otherwise."""
    stored = {header[name].get("dtype") for name in names if name in header}
    if torch.device(device).type == "cuda" and len(stored) == 1:
        return HALVES.get(str(stored.pop()), torch.float32)
    return torch.float32
