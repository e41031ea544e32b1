"""The pack's own networks on the host's device, under the host's memory management."""
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
    """While open, a module is where the host computes, or stays where it was if the host keeps all weights there; yields the device.

    The host makes room as for its own models: the module's weights and `memory` bytes for what a pass through it needs. Afterwards the
    module is where it was, and the room is given back. Open it outside inference mode.
    """
    home = next(module.parameters()).device
    patcher = comfy.model_patcher.ModelPatcher(module, comfy.model_management.get_torch_device(), home)
    try:
        # whole: a plain module cannot compute with weights that the host would bring one by one
        comfy.model_management.load_models_gpu([patcher], memory_required=memory, force_full_load=True)
        yield next(module.parameters()).device
    finally:
        others = [loaded for loaded in comfy.model_management.current_loaded_models if loaded.model is not patcher]
        comfy.model_management.free_memory(float("inf"), patcher.load_device, keep_loaded=others)
