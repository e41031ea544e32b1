"""The dtype of an encoder's weights: half precision only where it is fast and the file is stored in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

HALVES = {"F16": torch.float16, "BF16": torch.bfloat16}


def weights_dtype(header: Mapping[str, dict], names: Iterable[str], device: torch.device | str) -> torch.dtype:
    """float16 or bfloat16 if the file stores all named tensors in it and the device is CUDA, else float32."""
    stored = {header[name].get("dtype") for name in names if name in header}
    if torch.device(device).type == "cuda" and len(stored) == 1:
        return HALVES.get(str(stored.pop()), torch.float32)
    return torch.float32
