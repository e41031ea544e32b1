"""The options of a refinement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..errors import UserError
from .losses import MaskLoss

Mode = Literal["auto", "words", "residual", "paper_literal"]
NEAR_STEPS, FAR_STEPS = 10, 25
"""Default steps on the embeddings, for a subject like those that the probe was trained on, and for one unlike them."""
OTHER_STEPS = 5
"""Default steps of the modes "residual" and "paper_literal"."""


@dataclass(frozen=True)
class RefineConfig:
    """Options of a refinement.

    Attributes:
        mode: "words", which "auto" stands for, optimizes the token embeddings themselves; "residual" (the paper's form) optimizes
            residuals on Q, K and V of the probe's cross-attentions; "paper_literal" is "residual" with the printed learning rate and
            lambda, whose step size of 2e-7 changes the embeddings by far less than a percent.
        steps: number of steps; 0 keeps the prediction. None lets the image decide: with "words" `NEAR_STEPS`, or `FAR_STEPS` if the
            gradient at the prediction says that the subject is unlike those of the probe's training; else `OTHER_STEPS`.
        step_size: for "words" a fraction of the embeddings' mean norm; for "residual" lambda x lr, the largest change of a weight per
            step. None uses the mode's default, which for "residual" the probe gives.
        anchor: for "words", the weight of a pull back to the start. None uses 1 for a probe's prediction, or 0 if the subject is unlike
            those of the probe's training, and 0 for another start.
        caption: what the reference shows, "a photo of <subject> on a sofa" or what follows the subject; a line for each image, or one for
            all. Empty: unknown (see `captions`).
        batch: samples (image, time, noise) per step.
        times: range of the noise schedule to sample from, 0 clean to 1 noise.
        background: weight of the denoising loss off the mask; 1 on it.
        mask_weight, mask_loss: alpha_M and the form of the mask regularisation.
        validation: size of the fixed set of samples on which the loss is measured at the start, every few steps and at the end. It
            is reported and decides nothing.
        seed: seed of all noise.
    """

    mode: Mode = "auto"
    steps: int | None = None
    step_size: float | None = None
    anchor: float | None = None
    caption: str = ""
    batch: int = 4
    times: tuple[float, float] = (0.2, 1.0)
    background: float = 0.2
    mask_weight: float = 1e-3
    mask_loss: MaskLoss = "balanced"
    validation: int = 4
    seed: int = 0

    def __post_init__(self):
        if self.mode not in get_args(Mode):
            raise UserError(f"expected one of the modes {', '.join(get_args(Mode))}, found {self.mode!r}")
        if self.steps is not None and not 0 <= self.steps <= 1000:
            raise UserError(f"expected 0 to 1000 refinement steps, found {self.steps}")
        if self.step_size is not None and not 0 < self.step_size <= 1:
            raise UserError(f"expected a step size above 0 and at most 1, found {self.step_size}")
        if self.anchor is not None and not 0 <= self.anchor <= 1000:
            raise UserError(f"expected an anchor from 0 to 1000, found {self.anchor}")
        if self.anchor is not None and self.mode not in ("auto", "words"):
            raise UserError(f"only the mode words has an anchor, found the mode {self.mode}; leave the anchor out")
        if self.batch < 1 or self.validation < 1:
            raise UserError(f"expected a batch and a validation set of at least 1, found {self.batch} and {self.validation}")
        if not 0 <= self.times[0] < self.times[1] <= 1:
            raise UserError(f"expected times from 0 (clean) to 1 (noise), the first below the second, found {self.times}")
        if not (0 <= self.background <= 1 and 0 <= self.mask_weight <= 100) or self.mask_loss not in get_args(MaskLoss):
            forms = " or ".join(get_args(MaskLoss))
            raise UserError(
                f"expected a background weight from 0 to 1, a mask weight from 0 to 100 and the mask loss {forms}, "
                f"found {self.background}, {self.mask_weight} and {self.mask_loss!r}"
            )

    @property
    def resolved(self) -> RefineConfig:
        """A copy whose mode is not "auto", and whose steps are known unless the image decides them."""
        mode = "words" if self.mode == "auto" else self.mode
        return replace(self, mode=mode, steps=OTHER_STEPS if self.steps is None and mode != "words" else self.steps)
