"""A hash of a network's weights."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def weights_fingerprint(*modules: nn.Module) -> str:
    """16 hex digits of SHA-256 over the names, dtypes, shapes and bytes of the modules' state dicts."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
