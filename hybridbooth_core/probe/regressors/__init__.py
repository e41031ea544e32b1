"""Regressors: map merged features (promptnet: and the reference's latents) to a subject's token embeddings."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from ...errors import UserError
from .promptnet import PromptNet
from .resampler import Resampler


class Regressor(Protocol):
    """The interface of a regressor. `reads_latents` is False if it ignores the latents."""

    reads_latents: bool

    def __call__(self, features: Tensor, latents: Tensor) -> Tensor:
        """f [B, L, d] and clean reference latents [B, C, h, w] to outputs [B, n, d] of about unit standard deviation."""
        ...

    def refined_layers(self) -> list[nn.Linear]:
        """Q, K and V of its cross-attentions, which the refinement adds residuals to."""
        ...

    def blocks(self) -> list[nn.Module]:
        """Modules for activation checkpointing; none contains another."""
        ...


KINDS: dict[str, type[nn.Module]] = {"promptnet": PromptNet, "resampler": Resampler}


def build_regressor(kind: str, num_tokens: int, width: int, sizes: dict[str, Any]) -> nn.Module:
    """A new regressor. UserError: an unknown kind, or sizes that do not fit together."""
    if kind not in KINDS:
        raise UserError(f"expected the regressor {' or '.join(KINDS)}, found {kind!r}; update the pack to use this probe")
    try:
        return KINDS[kind](num_tokens=num_tokens, width=width, **sizes)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"the sizes of the {kind} regressor do not fit together ({error}); the probe file is damaged") from error
