"""What all trained systems share: the plain denoising objective, rows drawn at random, AdamW as published, and snapshots.

Axes: B rows of a step, R images, C h w latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from ..models.adapter import DiffusionModel, TrainableModel
from ..models.gradient_scaling import HALF_SCALE
from ..models.progress import OnStep, Step
from ..models.seeds import method_generator
from ..refine.losses import denoising_loss
from .artefact import Artefact, Trained

BETAS, EPSILON, DECAY = (0.9, 0.999), 1e-8, 1e-2  # of AdamW, in all of diffusers' training scripts
MAX_STEPS = 100_000


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of every method that trains.

    Attributes:
        steps: of AdamW, at a constant learning rate.
        learning_rate: see each system for the published one.
        batch: rows (image, time, noise) a step averages over; class images come on top.
        seed: of all that is drawn.
        keep: numbers of steps after which an artefact is kept too.
    """

    steps: int
    learning_rate: float
    batch: int
    seed: int = 0
    keep: tuple[int, ...] = ()

    def __post_init__(self):
        if not 1 <= self.steps <= MAX_STEPS:
            raise UserError(f"expected 1 to {MAX_STEPS} training steps, found {self.steps}")
        if not 0 < self.learning_rate <= 1:
            raise UserError(f"expected a learning rate above 0 and at most 1, found {self.learning_rate}")
        if not 1 <= self.batch <= 1024:
            raise UserError(f"expected 1 to 1024 rows a step, found {self.batch}")
        if not all(1 <= count <= self.steps for count in self.keep):
            raise UserError(f"expected numbers of steps to keep from 1 to {self.steps}, found {', '.join(map(str, self.keep))}")


@dataclass(frozen=True, eq=False)
class Rows:
    """What a step looks at: clean latents [B, C, h, w], times int64 [B], noise [B, C, h, w]."""

    latents: Tensor
    t: Tensor
    noise: Tensor

    def joined(self, other: Rows) -> Rows:
        """These rows, then the other's."""
        return Rows(*(torch.cat([getattr(self, name), getattr(other, name)]) for name in vars(self)))


def draw_rows(latents: Tensor, count: int, times: int, generator: torch.Generator) -> Rows:
    """`count` rows out of R latents: image and time uniform (Ho et al. 2020, algorithm 1), noise standard normal."""
    pick = torch.randint(len(latents), (count,), generator=generator)
    t = torch.randint(times, (count,), generator=generator)
    noise = torch.randn((count, *latents.shape[1:]), generator=generator)
    return Rows(latents[pick.to(latents.device)], t.to(latents.device), noise.to(latents))


def row_losses(model: DiffusionModel, rows: Rows, context: Tensor) -> Tensor:
    """The squared error of what the network puts out (eps or v), its mean for each of the B rows (Ho et al. 2020, eq. 14)."""
    predicted = model.predict_noise(model.schedule.add_noise(rows.latents, rows.noise, rows.t), rows.t, context)
    return denoising_loss(predicted, rows.noise, model.schedule.loss_weight(rows.t))


def train(
    leaves: Sequence[Tensor],
    loss_at: Callable[[torch.Generator], Tensor],
    snapshot: Callable[[int], Artefact],
    config: TrainingConfig,
    on_step: OnStep | None = None,
    scale: float = 1.0,
) -> Trained:
    """Minimise a loss over leaves by AdamW.

    Args:
        loss_at: the loss of one step, whose rows are drawn from the generator given: step k draws the same in a run of any length.
        snapshot: the artefact as it is after so many steps.
        scale: a power of two that the loss is multiplied by in the backward pass and the gradients divided by after it (see `loss_scale`).
    Raises:
        UserError: the loss is not finite.
    """
    optimizer = torch.optim.AdamW(leaves, lr=config.learning_rate, betas=BETAS, eps=EPSILON, weight_decay=DECAY)
    artefacts: dict[int, Artefact] = {}
    losses: list[float] = []
    with torch.enable_grad():
        for done in range(1, config.steps + 1):
            loss = loss_at(method_generator(config.seed, done))
            if not bool(torch.isfinite(loss)):
                raise UserError(f"the loss of step {done} is not finite; lower the learning rate, or check the image and the checkpoint")
            optimizer.zero_grad()
            (loss * scale).backward(inputs=list(leaves))
            for leaf in leaves if scale != 1 else ():
                assert leaf.grad is not None
                leaf.grad /= scale
            optimizer.step()
            losses.append(loss.item())
            if done in config.keep or done == config.steps:
                artefacts[done] = snapshot(done)
            if on_step:
                on_step(Step(done, config.steps, losses[-1], lambda now=done: snapshot(now)))
    return Trained(artefacts, losses, f"{len(losses)} steps, loss {losses[0]:.4f} in the first and {losses[-1]:.4f} in the last")


def loss_scale(model: TrainableModel) -> float:
    """What to scale the loss by, so that gradients to the denoiser's weights do not round to zero in float16."""
    dtype = getattr(model, "dtype", None) or next(model.denoiser.parameters()).dtype  # a host may compute in another than it stores
    return HALF_SCALE if dtype == torch.float16 else 1.0
