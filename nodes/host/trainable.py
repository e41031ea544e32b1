"""The attentions of ComfyUI's denoiser under diffusers' names, as methods that tune weights expect them."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.models.ldm_layout import transformers_of
from .autograd_weights import NonInferenceWeight

UNET = "diffusion_model."


def attentions(unet: Any) -> nn.Module:
    """A tree of empty modules that holds the denoiser's own transformers under diffusers' names. Hook it, but do not change it."""
    tree = nn.Module()
    for place, name in transformers_of(name for name, _ in unet.named_modules()).items():
        *path, last = name.split(".")
        parent = tree
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(last, unet.get_submodule(place))
    return tree


@contextmanager
def replaced_weights(patcher: Any, wrappers: Mapping[str, NonInferenceWeight], weights: Mapping[str, Tensor]) -> Iterator[None]:
    """While open, operations use these tensors, by diffusers' names, in place of the weights that ComfyUI hands them.

    Raises:
        ValueError: the denoiser has no attention of a name, or its weight has another shape.
        UserError: the weights are patched, by a LoRA for example: what would be tuned is not what the model computes with.
    """
    unet = patcher.model.diffusion_model
    places = {name: place for place, name in transformers_of(name for name, _ in unet.named_modules()).items()}
    found: list[NonInferenceWeight] = []
    for name, tensor in weights.items():
        transformer = next((other for other in places if name.startswith(f"{other}.")), None)
        key = None if transformer is None else f"{UNET}{places[transformer]}{name[len(transformer) :]}"
        if key is None or key not in wrappers or wrappers[key].shape != tensor.shape:
            raise ValueError(f"expected an attention weight of the denoiser, found {name} {list(tensor.shape)}")
        if patcher.patches.get(key):
            raise UserError("expected a MODEL without LoRAs for a method that tunes its weights; connect the checkpoint's own MODEL")
        found.append(wrappers[key])
    before = [wrapper.replacement for wrapper in found]
    for wrapper, tensor in zip(found, weights.values(), strict=True):
        wrapper.replacement = tensor
    try:
        yield
    finally:
        for wrapper, replacement in zip(found, before, strict=True):
            wrapper.replacement = replacement
