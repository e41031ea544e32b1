"""A few gradient steps that bring a probe's guess closer to the subject, through the frozen model's own denoising loss.

What moves is either the probe's K, Q and V (by residuals, the paper's way) or the words themselves. Whatever it was, the result is words:
the probe and the model are as they were.

Axes: R reference pictures, B rows of a step, C h w latents, n words, d their width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .diffusion_model import AttentionTap, DiffusionModel, Prompt
from .errors import UserError
from .features import Reference, target_squares
from .losses import MaskLoss, denoising_loss, mask_regularisation, subject_weight
from .probe import Features, Probe
from .residual import residual_optimizer, residuals_on
from .timesteps import antithetic_noise, stratified_timesteps

Mode = Literal["residual", "words", "paper_literal"]
TEMPLATES = (("a photo of",), ("a photo of a",))
SEEDS = 1 << 63  # torch takes no larger one, ComfyUI gives some
PAPER_LR, PAPER_LAMBDA, PAPER_DECAY = 2e-5, 1e-2, 1e-2  # HybridBooth's printed constants


@dataclass(frozen=True)
class RefineConfig:
    """How to refine.

    Attributes:
        mode: "residual" moves the K, Q, V of the probe's cross-attentions; "words" the words; "paper_literal" is "residual" with the
            printed learning rate and lambda, whose effective step of 2e-7 moves the words by far less than a percent.
        steps: 3 to 5 from a probe; 0 keeps the guess.
        effective_step: lambda x lr of "residual", the most that one step changes one weight; for "words" the length of a step as a share
            of an average word's length. None takes the one recommended for the mode by the probe's file.
        batch: rows (pictures x times) a step averages over.
        times: the part of the schedule that is looked at, 0 clean to 1 noise.
        background: weight of the denoising loss off the mask, 1 on it.
        mask_weight, mask_loss: alpha_M and the form of the mask regularisation.
        validation: rows of the fixed set of (time, noise) that picks the best step.
        seed: of all noise.
    """

    mode: Mode = "residual"
    steps: int = 5
    effective_step: float | None = None
    batch: int = 8
    times: tuple[float, float] = (0.2, 1.0)
    background: float = 0.2
    mask_weight: float = 1e-3
    mask_loss: MaskLoss = "balanced"
    validation: int = 16
    seed: int = 0

    def __post_init__(self):
        if self.mode not in get_args(Mode):
            raise UserError(f"expected the mode {', '.join(get_args(Mode))}, found {self.mode!r}")
        if not 0 <= self.steps <= 1000:
            raise UserError(f"expected 0 to 1000 refinement steps, found {self.steps}")
        if self.effective_step is not None and not 0 < self.effective_step <= 1:
            raise UserError(f"expected an effective step above 0 and at most 1, found {self.effective_step}")
        if self.batch < 1 or self.validation < 1:
            raise UserError(f"expected at least one row a step and in the validation set, found {self.batch} and {self.validation}")
        if not 0 <= self.times[0] < self.times[1] <= 1:
            raise UserError(f"expected times from 0 (clean) to 1 (noise), the first below the second, found {self.times}")
        if not (0 <= self.background <= 1 and 0 <= self.mask_weight <= 100) or self.mask_loss not in get_args(MaskLoss):
            forms = " or ".join(get_args(MaskLoss))
            raise UserError(
                f"expected a background weight from 0 to 1, a mask weight from 0 to 100 and the mask loss {forms}, "
                f"found {self.background}, {self.mask_weight} and {self.mask_loss!r}"
            )


@dataclass(frozen=True, eq=False)
class Refinement:
    """What came out. `validation[i]` is the loss on the fixed set after i steps, i = 0 being the start."""

    words: Tensor  # [n, d] float32 on the CPU, the best
    start: Tensor  # [n, d]
    losses: list[float]  # of the steps themselves, on their own noise
    validation: list[float]
    moves: list[float]  # |e_i - e_0| / |e_0| after 1, 2 ... steps, kept or not
    best_step: int
    stretch: float  # the line search's factor on the displacement of the best step
    effective_step: float

    @property
    def displacement(self) -> float:
        """|e - e_0| / |e_0|: how far the words that were kept are from the start."""
        return _relative(self.words, self.start)


class _Task:
    """The denoising task that the words are judged by: reference latents, their weights, and rows of (time, noise)."""

    def __init__(self, model: DiffusionModel, ref: Reference, config: RefineConfig):
        self.model, self.config = model, config
        target = target_squares(ref, model.picture_size)
        self.latents = model.encode_image(target.pictures).detach().clone()
        self.masks = None if target.masks is None else target.masks.to(self.latents.device)
        self.weight = subject_weight(self.masks, self.latents, config.background)
        self.fixed = self.rows(config.validation, torch.Generator().manual_seed((config.seed + 7919) % SEEDS))

    def rows(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Times int64 [count] and noise [count, C, h, w]."""
        t = stratified_timesteps(count, *self.config.times, len(self.model.schedule), generator)
        noise = antithetic_noise(count, tuple(self.latents.shape[1:]), generator)
        return t.to(self.latents.device), noise.to(self.latents)

    def loss(self, words: Tensor, t: Tensor, noise: Tensor, with_masks: bool, step: int = 0) -> Tensor:
        """The mean loss of words [n, d] over rows: they go through the R pictures in turn, and from round to round the template changes.

        Steps go on where the last one stopped, so that every picture has its turn however many there are.
        """
        turn = torch.arange(len(t), device=t.device) + step * len(t)
        pick = turn % len(self.latents)
        prompts: list[Prompt] = [[*TEMPLATES[i // len(self.latents) % len(TEMPLATES)], words] for i in turn.tolist()]
        encoded = self.model.encode_prompts(prompts)
        noisy = self.model.schedule.add_noise(self.latents[pick], noise, t)
        tap = AttentionTap(encoded.columns) if with_masks and self.masks is not None and self.config.mask_weight > 0 else None
        predicted = self.model.predict_noise(noisy, t, encoded.context, tap)
        weight = self.weight[pick] * self.model.schedule.loss_weight(t)
        loss = denoising_loss(predicted, noise, weight).mean()
        if tap is not None and self.masks is not None:
            loss = loss + self.config.mask_weight * mask_regularisation(tap.maps, self.masks[pick], self.config.mask_loss)
        return loss

    @torch.no_grad()
    def validate(self, words: Tensor) -> float:
        return self.loss(words, *self.fixed, with_masks=False).item()


def refine(
    model: DiffusionModel,
    ref: Reference,
    noun: Tensor,
    config: RefineConfig,
    probe: Probe | None = None,
    features: Features | None = None,
    start: Tensor | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Refinement:
    """Refine the words of one subject.

    Args:
        noun: [d], the class word's embedding.
        probe, features: whose guess to start from; several pictures' guesses are averaged. The "residual" modes need them.
        start: [n, d], words to start from instead; "words" mode only.
        on_step: called after every step with (steps done, steps, validation loss); may raise to stop, and nothing is lost.
    Raises:
        UserError: a mode without what it needs, or a loss that is not finite from the first step on.
    """
    moving = _Words(config, start) if start is not None else _moving(probe, features, noun, config)
    with torch.enable_grad(), moving:
        task = _Task(model, ref, config)
        words = moving.words().detach().clone()  # of the words mode's leaf too, which the optimizer writes to
        kept, losses, validation = [words], [], [task.validate(words)]
        optimizer = moving.optimizer() if config.steps else None
        for step in range(config.steps):
            assert optimizer is not None
            loss = task.loss(moving.words(), *task.rows(config.batch, _step_generator(config, step)), with_masks=True, step=step)
            if not bool(torch.isfinite(loss)):
                break  # keep-best below returns the last good words
            optimizer.zero_grad()
            loss.backward(inputs=[leaf for group in optimizer.param_groups for leaf in group["params"]])
            optimizer.step()
            words = moving.words().detach().clone()
            kept.append(words)
            losses.append(loss.item())
            validation.append(task.validate(words))
            if on_step:
                on_step(step + 1, config.steps, validation[-1])
        return _best(task, kept, losses, validation, moving.effective_step)


def _step_generator(config: RefineConfig, step: int) -> torch.Generator:
    return torch.Generator().manual_seed((config.seed * 1009 + step) % SEEDS)


def _best(task: _Task, kept: Sequence[Tensor], losses: list[float], validation: list[float], effective_step: float) -> Refinement:
    """Keep-best over all steps, the start included, then a line search that stretches the best displacement."""
    finite = [i for i, (v, w) in enumerate(zip(validation, kept, strict=True)) if math.isfinite(v) and bool(torch.isfinite(w).all())]
    if not finite:
        raise UserError("the denoising loss of this picture is not finite with this model; check the picture and the checkpoint")
    best = min(finite, key=lambda i: validation[i])
    start, found, stretch, lowest = kept[0], kept[best], 1.0, validation[best]
    if best > 0:
        for factor in (0.5, 1.5, 2.0):
            loss = task.validate(start + factor * (kept[best] - start))
            if loss < lowest:
                found, stretch, lowest = start + factor * (kept[best] - start), factor, loss
    moves = [_relative(words, start) for words in kept[1:]]
    return Refinement(found.cpu().float(), start.cpu().float(), losses, validation, moves, best, stretch, effective_step)


def _relative(words: Tensor, start: Tensor) -> float:
    return ((words - start).norm() / start.norm()).item()


class _Words(nullcontext):
    """What moves is the words themselves, by Adam; the length of a step is a share of an average word's length."""

    def __init__(self, config: RefineConfig, start: Tensor, step: float = 0.1, norm: float | None = None):
        super().__init__()
        if config.mode != "words":
            raise UserError(f"the mode {config.mode} refines a probe; load one, or choose the mode words")
        self.effective_step = config.effective_step or step
        self.norm = norm if norm is not None else start.norm(dim=1).mean().item()
        self.leaf = nn.Parameter(start.detach().clone().float())

    def words(self) -> Tensor:
        return self.leaf

    def optimizer(self) -> torch.optim.Optimizer:
        per_entry = self.effective_step * self.norm / self.leaf.shape[1] ** 0.5  # Adam moves every entry by about its rate
        return torch.optim.Adam([self.leaf], lr=per_entry)


class _ProbeResidual:
    """What moves is W' = W + lambda D of the probe's cross-attentions; the words are the probe's."""

    def __init__(self, probe: Probe, features: Features, noun: Tensor, config: RefineConfig):
        self.literal = config.mode == "paper_literal"
        self.scale = PAPER_LAMBDA if self.literal else 1.0
        self.effective_step = PAPER_LR * PAPER_LAMBDA if self.literal else config.effective_step or probe.config.residual_step
        self.guess = lambda: probe(features, noun).mean(0)
        self.hooks = residuals_on(probe.regressor.refined_layers(), self.scale)  # type: ignore[operator]

    def __enter__(self) -> None:
        self.residuals = self.hooks.__enter__()

    def __exit__(self, *exception) -> None:
        self.hooks.__exit__(*exception)

    def words(self) -> Tensor:
        return self.guess()

    def optimizer(self) -> torch.optim.Optimizer:
        if self.literal:
            return torch.optim.AdamW([r.delta for r in self.residuals], lr=PAPER_LR, weight_decay=PAPER_DECAY)
        return residual_optimizer(self.residuals, self.effective_step)


def _moving(probe: Probe | None, features: Features | None, noun: Tensor, config: RefineConfig) -> _Words | _ProbeResidual:
    if probe is None or features is None:
        raise UserError(f"the mode {config.mode} starts from a probe's guess; load a probe, or give words to start from")
    if config.mode != "words":
        return _ProbeResidual(probe, features, noun, config)
    with torch.no_grad():
        guess = probe(features, noun).mean(0)
    return _Words(config, guess, probe.config.words_step, probe.config.word_norm)
