"""Inference mode, progress and previews of a running node."""
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ...hybridbooth_core.models.adapter import DiffusionModel
from ...hybridbooth_core.models.memory import is_out_of_memory
from ...hybridbooth_core.models.progress import OnStep, Step
from ...hybridbooth_core.models.sampling import generate, initial_noise
from ...hybridbooth_core.report.progress_image import progress_image, time_left
from .notices import show_text

log = logging.getLogger("hybridbooth")

PREVIEW_STEPS, PREVIEW_GUIDANCE, PREVIEW_SEED = 8, 4.0, 0
PREVIEWS = 6
"""Previews of a run, at most."""
SHORT = 10
"""Runs of no more steps draw none: they are over before a preview helps."""
SECONDS = 1.0  # between two loss curves


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """While open, new tensors can be used with autograd. ComfyUI runs nodes in inference mode, whose tensors cannot."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def progress(draw: Callable[[Any], Tensor] | None = None) -> OnStep:
    """A callback that shows the progress of a running node: the bar, the loss curve, the time left, and previews.

    Args:
        draw: makes an image [H, W, 3] of the subject as it is after a step; see `preview_of`. None shows no previews.
    """
    bar = comfy.utils.ProgressBar(1)  # the first step says how many there will be
    losses: list[float] = []
    latest: Tensor | None = None
    started = shown = time.monotonic()

    def on_step(step: Step) -> None:
        nonlocal latest, shown
        losses.append(step.loss)
        comfy.model_management.throw_exception_if_processing_interrupted()
        every = max(3, -(-step.steps // PREVIEWS))
        due = step.steps > SHORT and step.done % every == 0 and step.done < step.steps
        if due and draw is not None and step.current is not None:
            image = _drawn(draw, step.current())
            latest = latest if image is None else image
        now = time.monotonic()
        last = step.done == step.steps
        shown_now = draw is not None and (due or last or now - shown > SECONDS)
        bar.update_absolute(step.done, step.steps, ("JPEG", progress_image(losses, step.steps, latest), None) if shown_now else None)
        if shown_now or draw is None:
            shown = now
        left = time_left(now - started, step.done, step.steps)
        show_text(f"{step.steps} steps in {now - started:.0f} s" if last else f"step {step.done} of {step.steps}{left}")

    return on_step


def _drawn(draw: Callable[[Any], Tensor], current: Any) -> Tensor | None:
    """A preview, or None if memory does not suffice for one: the run goes on without."""
    try:
        with torch.no_grad():
            return draw(current)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        log.warning("not enough memory for a preview; the run goes on without")
        return None


def preview_of(model: DiffusionModel) -> Callable[[Any], Tensor]:
    """Draws a subject, token embeddings [n, d] or an artefact, in a small image of few steps."""
    side = max(64, model.image_size * 5 // 8 // 64 * 64)
    noise: list[Tensor] = []

    def draw(current: Any) -> Tensor:
        if not noise:
            noise.append(initial_noise(1, tuple(model.encode_image(torch.zeros(1, side, side, 3)).shape[1:]), PREVIEW_SEED))
        with nullcontext([current]) if isinstance(current, Tensor) else current.applied(model) as pieces:
            return generate(model, [["a photo of", *pieces, "on snow"]], noise[0], PREVIEW_STEPS, PREVIEW_GUIDANCE)[0]

    return draw
