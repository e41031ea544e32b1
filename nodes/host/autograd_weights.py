"""A model of the host's opened to gradients for a while, and given back as it was.

The host loads weights in inference mode, which makes them tensors that no gradient may pass, and may hand them out in buffers that it
writes to again. Its own weight wrappers see every weight on its way to an operation; ours put an ordinary tensor in its place.
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
def autograd_weights(patcher: Any) -> Iterator[None]:
    """While open, gradients pass the model of `patcher`, a clone that nobody else has; its weights get none.

    Afterwards the clone is unloaded, with all that was put on the model, and the host loads the original anew when it next uses it, which
    it had to do anyway, since the clone was patched. Word tables are left out: a look-up keeps nothing of the table for the gradient.
    """
    asking = [name for name, parameter in patcher.model.named_parameters() if parameter.requires_grad]  # on ComfyUI 0.8
    patcher.model.requires_grad_(False)
    for name, module in patcher.model.named_modules():
        if hasattr(module, "weight_function") and not isinstance(module, nn.Embedding):
            for key in WRAPPED:
                patcher.add_weight_wrapper(f"{name}.{key}", NonInferenceWeight(module, key))
    try:
        yield
    finally:
        with torch.inference_mode():  # as the host itself would
            unload(patcher)
            _clear(patcher)
            for name in asking:
                patcher.model.get_parameter(name).requires_grad_(True)


def unload(patcher: Any) -> None:
    """Take from the host's devices what `patcher` had loaded, if it is loaded, and give the model back what it had replaced there."""
    loaded = comfy.model_management.current_loaded_models
    for entry in [entry for entry in loaded if entry.model is patcher]:
        loaded.remove(entry)
        entry.model_unload()


def _clear(patcher: Any) -> None:
    """Take our functions off the weights: the host does so when it next loads the model, which may be never."""
    for module in patcher.model.modules():
        for key in WRAPPED:
            functions = getattr(module, f"{key}_function", None)
            if functions:
                setattr(module, f"{key}_function", [function for function in functions if not isinstance(function, NonInferenceWeight)])


class NonInferenceWeight:
    """Makes of one weight, as the host hands it out, a tensor that gradients may pass and that nobody writes to."""

    def __init__(self, module: Any, key: str):
        self.module, self.key = module, key

    def __call__(self, weight: Tensor) -> Tensor:
        own = getattr(self.module, self.key)
        if hasattr(self.module, "_v") or own.device != weight.device or weight.is_inference():
            return weight.clone()  # from a buffer that the host uses again: for what it keeps elsewhere, or moves about by itself
        untouched = type(own) is nn.Parameter and own.dtype == weight.dtype and len(getattr(self.module, f"{self.key}_function")) == 1
        if untouched and own.device.type in ("cpu", "cuda"):
            return alias(own)  # so that the copy which the host made, as it does for every function, is not kept for the way back
        return weight


def alias(tensor: Tensor) -> Tensor:
    """The same numbers in the same place as an ordinary tensor, also where the tensor was made in inference mode."""
    with torch.inference_mode(False):
        return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(
            tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride()
        )
