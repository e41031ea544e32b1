"""How to refine: the one record of all choices, and their defaults."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..errors import UserError
from .losses import MaskLoss

Mode = Literal["auto", "learned", "residual", "words", "paper_literal"]


@dataclass(frozen=True)
class RefineConfig:
    """How to refine.

    Attributes:
        mode: "learned" takes the steps that the probe has learnt (see `learned_optimizer`); "residual", the paper's form, moves the K, Q, V of
            the probe's cross-attentions down the gradient; "words" the words; "paper_literal" is "residual" with the printed learning
            rate and lambda, whose effective step of 2e-7 moves the words by far less than a percent. "auto" is "learned" where the
            probe has learnt to, else "residual".
        steps: 3 to 5 from a probe; 0 keeps the guess.
        effective_step: lambda x lr of "residual", the most that one step changes one weight; for "words" the length of a step as a share
            of an average word's length; for "learned" the share of each step that is taken. None takes the one recommended for the mode
            by the probe's file.
        batch: rows (images x times) a step averages over.
        times: the part of the schedule that is looked at, 0 clean to 1 noise.
        background: weight of the denoising loss off the mask, 1 on it.
        mask_weight, mask_loss: alpha_M and the form of the mask regularisation.
        validation: rows of the fixed set of (time, noise) that picks the best step; None for few after learned steps, which hardly
            need it, and more after others.
        seed: of all noise.
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
            raise UserError(f"expected the mode {', '.join(get_args(Mode))}, found {self.mode!r}")
        if not 0 <= self.steps <= 1000:
            raise UserError(f"expected 0 to 1000 refinement steps, found {self.steps}")
        if self.step_size is not None and not 0 < self.step_size <= 1:
            raise UserError(f"expected an effective step above 0 and at most 1, found {self.step_size}")
        if self.batch < 1 or (self.validation is not None and self.validation < 1):
            raise UserError(f"expected at least one row a step and in the validation set, found {self.batch} and {self.validation}")
        if not 0 <= self.times[0] < self.times[1] <= 1:
            raise UserError(f"expected times from 0 (clean) to 1 (noise), the first below the second, found {self.times}")
        if not (0 <= self.background <= 1 and 0 <= self.mask_weight <= 100) or self.mask_loss not in get_args(MaskLoss):
            forms = " or ".join(get_args(MaskLoss))
            raise UserError(
                f"expected a background weight from 0 to 1, a mask weight from 0 to 100 and the mask loss {forms}, "
                f"found {self.background}, {self.mask_weight} and {self.mask_loss!r}"
            )

    def settled(self, auto: Mode) -> RefineConfig:
        """The same with nothing left open; `auto` is what the mode "auto" means here."""
        mode = auto if self.mode == "auto" else self.mode
        return replace(self, mode=mode, validation=self.validation or (4 if mode == "learned" else 16))
