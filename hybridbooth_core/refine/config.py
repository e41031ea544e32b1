"""The options of a refinement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..errors import UserError
from .losses import MaskLoss

Mode = Literal["auto", "learned", "residual", "words", "paper_literal"]


@dataclass(frozen=True)
class RefineConfig:
    """Options of a refinement.

    Attributes:
        mode: "learned" applies the probe's learned optimizer; "residual" (the paper's form) optimizes residuals on Q, K and V of the
            probe's cross-attentions; "words" optimizes the token embeddings themselves; "paper_literal" is "residual" with the printed
            learning rate and lambda, whose step size of 2e-7 changes the embeddings by far less than a percent. "auto" is "learned" if
            the probe has a learned optimizer, else "residual".
        steps: number of steps; 3 to 5 with a probe, 0 keeps the prediction.
        step_size: for "residual" lambda x lr, the largest change of a weight per step; for "words" a fraction of the embeddings' mean
            norm; for "learned" a factor on each update. None uses the probe's default for the mode.
        batch: samples (image, time, noise) per step.
        times: range of the noise schedule to sample from, 0 clean to 1 noise.
        background: weight of the denoising loss off the mask; 1 on it.
        mask_weight, mask_loss: alpha_M and the form of the mask regularisation.
        validation: size of the fixed validation set, which selects the best step; None uses 4 for "learned", which hardly needs it, else
            16.
        seed: seed of all noise.
    """

    mode: Mode = "auto"
    steps: int = 5
    step_size: float | None = None
    batch: int = 4
    times: tuple[float, float] = (0.2, 1.0)
    background: float = 0.2
    mask_weight: float = 1e-3
    mask_loss: MaskLoss = "balanced"
    validation: int | None = None
    seed: int = 0

    def __post_init__(self):
        if self.mode not in get_args(Mode):
            raise UserError(f"expected one of the modes {', '.join(get_args(Mode))}, found {self.mode!r}")
        if not 0 <= self.steps <= 1000:
            raise UserError(f"expected 0 to 1000 refinement steps, found {self.steps}")
        if self.step_size is not None and not 0 < self.step_size <= 1:
            raise UserError(f"expected a step size above 0 and at most 1, found {self.step_size}")
        if self.batch < 1 or (self.validation is not None and self.validation < 1):
            raise UserError(f"expected a batch and a validation set of at least 1, found {self.batch} and {self.validation}")
        if not 0 <= self.times[0] < self.times[1] <= 1:
            raise UserError(f"expected times from 0 (clean) to 1 (noise), the first below the second, found {self.times}")
        if not (0 <= self.background <= 1 and 0 <= self.mask_weight <= 100) or self.mask_loss not in get_args(MaskLoss):
            forms = " or ".join(get_args(MaskLoss))
            raise UserError(
                f"expected a background weight from 0 to 1, a mask weight from 0 to 100 and the mask loss {forms}, "
                f"found {self.background}, {self.mask_weight} and {self.mask_loss!r}"
            )

    def resolved(self, auto: Mode) -> RefineConfig:
        """A copy in which `auto` replaces the mode "auto", and the validation size is set."""
        mode = auto if self.mode == "auto" else self.mode
        return replace(self, mode=mode, validation=self.validation or (4 if mode == "learned" else 16))
