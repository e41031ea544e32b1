"""The device and dtype that networks compute in (the options --device and --dtype)."""

from __future__ import annotations

import torch

from ..errors import UserError


def default_dtype(device: torch.device) -> torch.dtype:
    """The denoiser's default dtype: float16 on CUDA, float32 elsewhere."""
    return torch.float16 if device.type == "cuda" else torch.float32


def compute_device(name: str | None) -> torch.device:
    """The named device, by default CUDA if available and else the CPU.

    Raises:
        UserError: this machine cannot use the device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
        return device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"the device {name} cannot be used here ({str(error).splitlines()[0][:120]}); leave --device out") from error
