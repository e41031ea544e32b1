"""Makes the weights of a ComfyUI model usable by autograd for a while.

ComfyUI loads weights in inference mode, so autograd cannot save them, and may pass them in buffers that it reuses. Its weight wrappers
see every weight before an operation; ours replace it by a tensor that autograd may save.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn

WRAPPED = ("weight", "bias")


@contextmanager
def autograd_weights(patcher: Any) -> Iterator[dict[str, NonInferenceWeight]]:
    """While open, gradients flow through the model of `patcher`; its weights get none. `patcher` must be a clone of our own.

    Yields the wrapper of each weight by its name. Closing unloads the clone with its patches; ComfyUI reloads the original when it next
    uses it, as it does after any patched clone. Embedding layers are skipped, since a lookup saves no weight for the backward pass.
    """
    requiring = [name for name, parameter in patcher.model.named_parameters() if parameter.requires_grad]  # on ComfyUI 0.8
    patcher.model.requires_grad_(False)
    wrappers: dict[str, NonInferenceWeight] = {}
    for name, module in patcher.model.named_modules():
        if hasattr(module, "weight_function") and not isinstance(module, nn.Embedding):
            for key in WRAPPED:
                wrappers[f"{name}.{key}"] = NonInferenceWeight(module, key)
                patcher.add_weight_wrapper(f"{name}.{key}", wrappers[f"{name}.{key}"])
    try:
        yield wrappers
    finally:
        with torch.inference_mode():  # as ComfyUI does
            unload(patcher)
            _clear(patcher)
            for name in requiring:
                patcher.model.get_parameter(name).requires_grad_(True)


def unload(patcher: Any) -> None:
    """Unloads `patcher` if it is loaded, which restores the weights that it had patched."""
    loaded = comfy.model_management.current_loaded_models
    for entry in [entry for entry in loaded if entry.model is patcher]:
        loaded.remove(entry)
        entry.model_unload()


def _clear(patcher: Any) -> None:
    """Removes our weight functions; ComfyUI would only do so when it next loads the model."""
    for module in patcher.model.modules():
        for key in WRAPPED:
            functions = getattr(module, f"{key}_function", None)
            if functions:
                setattr(module, f"{key}_function", [function for function in functions if not isinstance(function, NonInferenceWeight)])


class NonInferenceWeight:
    """Returns a copy of a weight that autograd may save (ComfyUI creates its own in inference mode), or an alias if that is safe.

    `replacement`, if it is set, is used in place of the weight; gradients flow to it.
    """

    def __init__(self, module: Any, key: str):
        self.module, self.key = module, key
        self.replacement: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        return getattr(self.module, self.key).shape

    def __call__(self, weight: Tensor) -> Tensor:
        if self.replacement is not None:
            return self.replacement.to(weight)
        own = getattr(self.module, self.key)
        if hasattr(self.module, "_v") or own.device != weight.device or weight.is_inference():
            return weight.clone()  # `weight` may be a buffer that ComfyUI reuses for offloaded weights
        untouched = type(own) is nn.Parameter and own.dtype == weight.dtype and len(getattr(self.module, f"{self.key}_function")) == 1
        if untouched and own.device.type in ("cpu", "cuda"):
            return alias(own)  # ComfyUI has copied the weight for our function; the alias keeps autograd from saving that copy
        return weight


def alias(tensor: Tensor) -> Tensor:
    """A tensor with the same storage that is not an inference tensor."""
    with torch.inference_mode(False):
        return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(
            tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride()
        )
