"""What is measured: one function for each row of the results, each run in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch

from hybridbooth_core.methods.registry import run_method
from hybridbooth_core.models.memory import MemoryPlan, use_plan
from hybridbooth_core.probe.probe import Features, Probe
from hybridbooth_core.refine.many import refine_many
from hybridbooth_core.refine.refine import Mode, RefineConfig, Task, ValidationRequest, refine, steps
from hybridbooth_core.refine.updates import update_rule

from .measure import Meter, measured, measured_training
from .world import CLASS, World

Step = Callable[[], Any]
MANY_STEPS = 1000  # more than are taken here


@dataclass(frozen=True)
class Setting:
    """How to measure: on which device, how often, and the side of the square products beside."""

    world: World
    dtype: torch.dtype
    repeats: int
    side: int
    compared: bool = True  # with a bare pass after every timed run

    @property
    def device(self) -> torch.device:
        return self.world.model.device

    def meter(self) -> Meter:
        """A new one; the memory in use now is what the row's peak is measured from."""
        return Meter(self.device, self.dtype, self.side, bare_pass(self.world) if self.compared else None)


def bare_pass(world: World) -> Step:
    """A forward and backward pass of diffusers' own UNet to its context, one row: what every step is compared with."""
    unet, side = world.model.unet, world.sizes.pixels // 8
    noisy, t = torch.randn(1, 4, side, side, device=unet.device, dtype=unet.dtype), torch.tensor([500], device=unet.device)
    context = torch.randn(1, 77, world.sizes.width, device=unet.device, dtype=unet.dtype, requires_grad=True)
    above = torch.randn_like(noisy)

    def step() -> None:
        context.grad = None
        with torch.enable_grad():
            unet(noisy, t, context).sample.backward(above, inputs=[context])  # FlopCounterMode cannot count `grad` to a leaf

    return step


def bare_diffusers(setting: Setting) -> dict:
    """The bare pass itself."""
    found = measured(bare_pass(setting.world), replace(setting, compared=False).meter(), setting.repeats)
    return found | {"ratio_to_bare": 1.0}


def refinement_step(world: World, mode: Mode, plan: MemoryPlan, stack: ExitStack, probe: Probe | None, features: Features | None) -> Step:
    """Steps of the pack's own refinement, as long as the stack is open; its validations are answered without looking."""
    config = RefineConfig(mode=mode, steps=MANY_STEPS, batch=plan.batch_size).resolved
    stack.enter_context(use_plan(world.model, plan))
    move = stack.enter_context(update_rule(config, probe, features, world.noun, None if probe else world.start))
    task = Task(world.model, world.ref, config, plan)
    procedure = steps(task, move)
    next(procedure)
    asked: Any = procedure.send(0.0)

    def step() -> None:
        nonlocal asked
        asked = procedure.send(task.gradient(asked.embeddings, asked.t, asked.noise, asked.step))
        if isinstance(asked, ValidationRequest):
            asked = procedure.send(0.0)

    return step


def refinement(mode: Mode, checkpointing: bool = False) -> Callable[[Setting], dict]:
    """One row of a step of the pack's own refinement."""

    def row(setting: Setting) -> dict:
        world = setting.world
        probe, features = (None, None) if mode == "words" else world.probe()
        with ExitStack() as stack:
            plan = MemoryPlan(checkpointing, 1, world.sizes.pixels)
            meter = setting.meter()
            return measured(refinement_step(world, mode, plan, stack, probe, features), meter, setting.repeats)

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


def many(count: int) -> Callable[[Setting], dict]:
    """A step and a validation of one row each, for `count` subjects at once, at half the side."""

    def row(setting: Setting) -> dict:
        world = setting.world.smaller(setting.world.sizes.pixels // 2)
        config = RefineConfig(mode="words", steps=MANY_STEPS, batch=1, validation=1)

        def train(on_step: Callable[..., None]) -> None:
            refine_many(world.model, [world.ref] * count, [world.noun] * count, config, starts=[world.start] * count, on_step=on_step)

        found = measured_training(train, replace(setting, world=world).meter(), setting.repeats, count)
        return found | {"subjects": count, "pixels": world.sizes.pixels}

    return row


def subject(setting: Setting) -> dict:
    """A whole refinement as it is by default, ten steps of four rows from a probe's prediction."""
    world = setting.world
    probe, features = world.probe()
    config = RefineConfig()
    return measured(lambda: refine(world.model, world.ref, world.noun, config, probe, features), setting.meter(), setting.repeats)


ROWS: dict[str, tuple[str, Callable[[Setting], dict]]] = {
    "bare_diffusers": ("bare pass: UNet forward and backward to the context, as diffusers computes it", bare_diffusers),
    "words": ("step of HybridBooth on the token embeddings (words)", refinement("words")),
    "words_checkpointed": ("the same with activation checkpointing", refinement("words", checkpointing=True)),
    "residual": ("step of HybridBooth on K, Q, V of a promptnet (the paper's form)", refinement("residual")),
    "validation": ("validation, 4 rows without gradients", validation),
    "textual_inversion": ("step of Textual Inversion, 1 row", trained("textual_inversion")),
    "dreambooth": ("step of DreamBooth, 1 + 1 rows", trained("dreambooth")),
    "dreambooth_lora": ("step of DreamBooth, LoRA, 1 + 1 rows", trained("dreambooth_lora")),
    "custom_diffusion": ("step of Custom Diffusion, 1 + 1 rows", trained("custom_diffusion")),
    "many_1": ("1 subject at once", many(1)),
    "many_2": ("2 subjects at once", many(2)),
    "many_4": ("4 subjects at once", many(4)),
    "subject": ("a whole subject, 10 steps of 4 rows", subject),
}
ONLY_ON_GPU = ("dreambooth", "many_1", "many_2", "many_4", "subject")  # too large or too slow for a CPU unless named by --only
