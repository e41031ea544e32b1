"""The option --device of the commands that compute with large networks."""

from __future__ import annotations

import torch

from ..errors import UserError


def compute_device(name: str | None) -> torch.device:
    """Where networks compute: a GPU where there is one, unless a name says otherwise; UserError if it cannot be used."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
        return device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"the device {name} cannot be used here ({str(error).splitlines()[0][:120]}); leave --device out") from error
