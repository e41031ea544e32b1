"""Regressors: merged features (and, for promptnet, the reference's latents) to subject words. Two kinds behind one interface."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from ...errors import UserError
from .promptnet import PromptNet
from .resampler import Resampler


class Regressor(Protocol):
    """What a probe, the refinement and the training need of a regressor. `reads_latents`: whether they make a difference to it."""

    reads_latents: bool

    def __call__(self, features: Tensor, latents: Tensor) -> Tensor:
        """f [B, L, d] and clean reference latents [B, C, h, w] to outputs [B, n, d] of about unit spread."""
        ...

    def refined_layers(self) -> list[nn.Linear]:
        """The K, Q and V of its cross-attentions: what the refinement adds residuals to."""
        ...

    def blocks(self) -> list[nn.Module]:
        """What may be computed a second time on the way back instead of kept: no two inside one another."""
        ...


KINDS: dict[str, type[nn.Module]] = {"promptnet": PromptNet, "resampler": Resampler}


def build_regressor(kind: str, num_tokens: int, width: int, sizes: dict[str, Any]) -> nn.Module:
    """A fresh regressor of a kind. UserError names the kinds and the sizes that exist."""
    if kind not in KINDS:
        raise UserError(f"expected the regressor {' or '.join(KINDS)}, found {kind!r}; this probe needs a newer version of the pack")
    try:
        return KINDS[kind](num_tokens=num_tokens, width=width, **sizes)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"the sizes of the {kind} regressor do not fit together ({error}); the probe file is damaged") from error
