"""Stored samples as tensors for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from .decode import image_tensor, mask_tensor
from .shards import CLIP, DINO, FEATURES, IMAGE, LATENTS, MASK, NOTES, REFERENCE_LATENTS, WHOLE

Stored = dict[str, Any]  # members of a sample by extension, its description (NOTES) parsed, and its key as `__key__`


@dataclass(frozen=True, eq=False)
class Example:
    """One sample, on the CPU. Tensors that are not cached or not requested are None.

    Attributes:
        key: its number in the shards.
        image: the square [S, S, 3], float32 in 0..1. mask: [S, S], 1 on the subject; None if the image has none.
        clip, dino: tokens [L, C] of the reference, float16. The reference is `features.square_crops` of image and mask.
        whole: the reference is the whole square, because the image has no mask or at random; to recompute it, pass no mask.
        latents: [C, h, w] of the square, float16. reference_latents: of the reference at S pixels; the same tensor if `whole`.
        class_word, identity, prompt: None if unknown. Images with the same identity show the same subject.
    """

    key: str
    image: Tensor | None
    mask: Tensor | None
    clip: Tensor | None
    dino: Tensor | None
    latents: Tensor | None
    reference_latents: Tensor | None
    whole: bool
    class_word: str | None
    identity: str | None
    prompt: str | None = None


def example_of(stored: Stored, config: dict[str, Any]) -> Example:
    """Decodes a sample; ValueError or KeyError if a member does not match the configuration of the shards."""
    notes, mask = stored[NOTES], stored.get(MASK)
    image = image_tensor(stored[IMAGE]) if IMAGE in stored else None
    mask = None if mask is None else mask_tensor(mask)
    if any(side is not None and len(side) != config.get("size") for side in (image, mask)):
        raise ValueError("an image or mask has another size")
    tensors = _tensors(stored[FEATURES], config) if config.get("features") else {}
    whole = mask is None or notes.get("reference") == WHOLE
    latents = tensors.get(LATENTS)
    reference = latents if whole else tensors.get(REFERENCE_LATENTS)
    if (reference is None) != (latents is None):
        raise ValueError(f"no {REFERENCE_LATENTS}")
    names = notes.get("class_word"), notes.get("identity"), notes.get("prompt")
    if not all(name is None or isinstance(name, str) for name in names):
        raise ValueError("the class noun, the identity or the prompt is not text")
    return Example(stored["__key__"], image, mask, tensors.get(CLIP), tensors.get(DINO), latents, reference, whole, *names)


def _tensors(content: bytes, config: dict[str, Any]) -> dict[str, Tensor]:
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError("the features are not a safetensors file") from error
    for name, entry in config["features"].items():
        if name not in (CLIP, DINO, LATENTS):
            continue
        tensor = tensors.get(name)
        if tensor is None or tensor.dtype != torch.float16 or tensor.ndim != (3 if name == LATENTS else 2):
            raise ValueError(f"no {name}")
        if name != LATENTS and tensor.shape[1] != entry["width"]:
            raise ValueError(f"{name} has another width")
    return tensors
