"""What is measured: one function for each row of the results, each run in a process of its own."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from hybridbooth_core.methods.registry import run_method
from hybridbooth_core.methods.training import BETAS, DECAY, EPSILON
from hybridbooth_core.models.memory import MemoryPlan, use_plan
from hybridbooth_core.probe.probe import Features, Probe
from hybridbooth_core.refine.many import refine_many
from hybridbooth_core.refine.refine import Mode, RefineConfig, Task, refine, steps
from hybridbooth_core.refine.updates import update_rule

from .measure import GIGA, Meter, measured, measured_training, seconds_of, spread
from .world import CLASS, World

Step = Callable[[], Any]
MANY_STEPS = 1000  # more than anybody takes here
WHOLE_TRAINING = 24e9  # bytes that DreamBooth's whole training takes: five denoisers of float32, and what two rows keep


@dataclass(frozen=True)
class Setting:
    """How to measure: on which device, how often, and the side of the square products beside."""

    world: World
    dtype: torch.dtype
    repeats: int
    side: int

    @property
    def device(self) -> torch.device:
        return self.world.model.device

    def meter(self) -> Meter:
        return Meter(self.device, self.dtype, self.side)


def bare_step(world: World, through_the_pack: bool) -> Step:
    """A forward and backward pass of the UNet to its context, batch 1: as diffusers computes it, or as the pack does."""
    model, side = world.model, world.sizes.pixels // 8
    noisy, t = torch.randn(1, 4, side, side, device=model.device), torch.tensor([500], device=model.device)
    context = torch.randn(1, 77, world.sizes.width, device=model.device, requires_grad=True)
    above = torch.randn_like(noisy)

    def step() -> None:
        dtype = model.unet.dtype
        out = model.predict_noise(noisy, t, context) if through_the_pack else model.unet(noisy.to(dtype), t, context.to(dtype)).sample
        context.grad = None
        out.backward(above.to(out), inputs=[context])  # not `grad`: the counter of operations does not bear it on a leaf

    return step


def bare_diffusers(setting: Setting) -> dict:
    return measured(bare_step(setting.world, False), setting.meter(), setting.repeats)


def bare(setting: Setting) -> dict:
    return measured(bare_step(setting.world, True), setting.meter(), setting.repeats)


def refinement_step(world: World, mode: Mode, plan: MemoryPlan, stack: ExitStack, probe: Probe | None, features: Features | None) -> Step:
    """Steps of the pack's own refinement, as long as the stack is open; its validations are answered without looking."""
    config = RefineConfig(mode=mode, steps=MANY_STEPS, batch=plan.rows).settled(mode)
    stack.enter_context(use_plan(world.model, plan))
    move = stack.enter_context(update_rule(config, probe, features, world.noun, None if probe else world.start))
    task = Task(world.model, world.ref, config, plan)
    procedure = steps(task, move)
    next(procedure)
    asked: Any = procedure.send(0.0)

    def step() -> None:
        nonlocal asked
        procedure.send(task.gradient(asked.embeddings, asked.t, asked.noise, asked.step))
        asked = procedure.send(0.0)

    return step


def refinement(mode: Mode, checkpointing: bool = False) -> Callable[[Setting], dict]:
    """One row of a step: the pack's step, in turns with the bare pass."""

    def row(setting: Setting) -> dict:
        world = setting.world
        probe, features = (None, None) if mode == "words" else world.probe(learned=mode == "learned")
        with ExitStack() as stack:
            plan = MemoryPlan(checkpointing, 1, world.sizes.pixels)
            meter = setting.meter()
            step = refinement_step(world, mode, plan, stack, probe, features)
            plain = MemoryPlan(False, 1, world.sizes.pixels)

            def beside() -> None:
                with use_plan(world.model, plain):
                    bare_pass()

            bare_pass = bare_step(world, True)
            return measured(step, meter, setting.repeats, beside)

    return row


def validation(setting: Setting) -> dict:
    """Four rows without gradients, as they are validated."""
    world = setting.world
    plan = MemoryPlan(False, 1, world.sizes.pixels)
    task = Task(world.model, world.ref, RefineConfig(mode="words", batch=1, validation=4), plan)
    with use_plan(world.model, plan):
        return measured(lambda: task.validate(world.start), setting.meter(), setting.repeats) | {"rows": 4}


def trained(name: str, **options: Any) -> Callable[[Setting], dict]:
    """A step of a system of the family, one row of the subject (and one of its class where the system has such)."""

    def row(setting: Setting) -> dict:
        world = setting.world
        prior = {} if name == "textual_inversion" else {"prior": world.prior(), "prior_images": 2, "token": "sks"}

        def train(on_step: Callable[..., None]) -> None:
            run_method(name, world.model, world.ref, CLASS, steps=MANY_STEPS, batch=1, on_step=on_step, **options, **prior)

        return measured_training(train, setting.meter(), setting.repeats) | {"rows": 1 if name == "textual_inversion" else 2}

    return row


def dreambooth(setting: Setting) -> dict:
    """The whole denoiser. Where its training does not fit into memory, the passes and AdamW's step are measured one after the other."""
    free = free_bytes()
    needed = WHOLE_TRAINING * sum(p.numel() for p in setting.world.model.unet.parameters()) / 859_520_964
    if setting.device.type == "cuda" or free > needed:
        return trained("dreambooth")(setting)
    if free < 0.75 * needed:
        return {"left_out": f"it needs {0.75 * needed / GIGA:.0f} GB of memory even in parts, and {free / GIGA:.0f} GB are free"}
    with patch.object(torch.optim, "AdamW", _NoOptimizer):
        row = trained("dreambooth")(setting)
    gc.collect()
    optimizer = _optimizer_seconds(setting)
    whole = {name: round(value + optimizer["median"], 4) for name, value in row["seconds"].items()}
    note = "forward and backward, and AdamW's step, were measured one after the other: together they do not fit into memory"
    return row | {"seconds": whole, "optimizer_seconds": optimizer, "note": note}


class _NoOptimizer:
    """In AdamW's place where only the passes are measured."""

    def __init__(self, leaves: list[torch.Tensor], **_: Any):
        self.leaves = leaves

    def zero_grad(self) -> None:
        for leaf in self.leaves:
            leaf.grad = None

    def step(self) -> None:
        pass


def _optimizer_seconds(setting: Setting) -> dict[str, float]:
    """One step of AdamW over the whole denoiser."""
    own = list(setting.world.model.unet.parameters())
    leaves = [parameter.detach().clone() for parameter in own]
    for leaf, parameter in zip(leaves, own, strict=True):
        leaf.grad = parameter.detach()  # any numbers do
    optimizer = torch.optim.AdamW(leaves, lr=5e-6, betas=BETAS, eps=EPSILON, weight_decay=DECAY)
    optimizer.step()
    return spread([seconds_of(optimizer.step, setting.device) for _ in range(setting.repeats)])


def free_bytes() -> float:
    """Memory that a process may still take; without limit where the system does not say."""
    listing = Path("/proc/meminfo")
    rows = listing.read_text().splitlines() if listing.exists() else []
    return next((int(row.split()[1]) * 1024 for row in rows if row.startswith("MemAvailable:")), float("inf"))


def many(count: int) -> Callable[[Setting], dict]:
    """A step and a validation of one row each, for `count` subjects at once, at half the side."""

    def row(setting: Setting) -> dict:
        world = setting.world.smaller(setting.world.sizes.pixels // 2)
        config = RefineConfig(mode="words", steps=MANY_STEPS, batch=1, validation=1)

        def train(on_step: Callable[..., None]) -> None:
            refine_many(world.model, [world.ref] * count, [world.noun] * count, config, starts=[world.start] * count, on_step=on_step)

        found = measured_training(train, setting.meter(), setting.repeats, count)
        return found | {"subjects": count, "pixels": world.sizes.pixels, "seconds_per_subject": found["seconds"]["median"] / count}

    return row


def subject(setting: Setting) -> dict:
    """A whole refinement as it is by default, five steps of four rows from a probe that has learnt its steps."""
    world = setting.world
    probe, features = world.probe(learned=True)
    config = RefineConfig(mode="learned")
    return measured(lambda: refine(world.model, world.ref, world.noun, config, probe, features), setting.meter(), setting.repeats)


ROWS: dict[str, tuple[str, Callable[[Setting], dict]]] = {
    "bare_diffusers": ("UNet forward and backward to the context, by diffusers as it comes", bare_diffusers),
    "bare": ("the same through the pack: the yardstick", bare),
    "words": ("step of HybridBooth, words", refinement("words")),
    "words_checkpointed": ("the same with checkpointing", refinement("words", checkpointing=True)),
    "residual": ("step of HybridBooth, K, Q, V of a promptnet", refinement("residual")),
    "residual_checkpointed": ("the same with checkpointing", refinement("residual", checkpointing=True)),
    "learned": ("step of HybridBooth, learned", refinement("learned")),
    "validation": ("validation, 4 rows", validation),
    "textual_inversion": ("step of Textual Inversion, 1 row", trained("textual_inversion")),
    "dreambooth": ("step of DreamBooth, 1 + 1 rows", dreambooth),
    "dreambooth_lora": ("step of DreamBooth, LoRA, 1 + 1 rows", trained("dreambooth_lora")),
    "custom_diffusion": ("step of Custom Diffusion, 1 + 1 rows", trained("custom_diffusion")),
    "many_1": ("1 subject at once", many(1)),
    "many_2": ("2 subjects at once", many(2)),
    "many_4": ("4 subjects at once", many(4)),
    "subject": ("a whole subject, 5 steps of 4 rows", subject),
}
SLOW_ON_CPU = ("subject",)  # told from the other rows there
