"""Inference mode and progress of a running node."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.utils
import torch

from ...hybridbooth_core.models.progress import OnStep, Step


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """While open, new tensors can be used with autograd. ComfyUI runs nodes in inference mode, whose tensors cannot."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def progress(steps: int) -> OnStep:
    """A callback for `refine` that moves the node's progress bar."""
    bar = comfy.utils.ProgressBar(max(steps, 1))

    def on_step(step: Step) -> None:
        bar.update_absolute(step.done, step.steps)

    return on_step
