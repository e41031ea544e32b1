"""Runs the pack's own networks under ComfyUI's memory management."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management
import comfy.model_patcher
import torch
from torch import nn


@contextmanager
def on_device(module: nn.Module, memory: int = 0) -> Iterator[torch.device]:
    """While open, the module is on ComfyUI's device; yields the device. Use it outside inference mode.

    ComfyUI frees memory for the module's weights and `memory` bytes for its forward pass. Closing moves the module back.
    """
    home = next(module.parameters()).device
    patcher = comfy.model_patcher.ModelPatcher(module, comfy.model_management.get_torch_device(), home)
    try:
        # in full: ComfyUI cannot load a plain module's weights on demand
        comfy.model_management.load_models_gpu([patcher], memory_required=memory, force_full_load=True)
        yield next(module.parameters()).device
    finally:
        others = [loaded for loaded in comfy.model_management.current_loaded_models if loaded.model is not patcher]
        comfy.model_management.free_memory(float("inf"), patcher.load_device, keep_loaded=others)
