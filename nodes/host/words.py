"""The text encoder of a wired CLIP alone, open to gradients: what finding words in CLIP's space takes."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...hybridbooth_core.bases import family_of_width
from ...hybridbooth_core.encoders.clip_space import ClipSpace
from ...hybridbooth_core.miniature.bundle import load_clip_space
from ...hybridbooth_core.miniature.world_model import WIDTH
from ...hybridbooth_core.models.adapter import EncodedPrompts, Prompt, vocabulary_fingerprint
from .autograd_weights import autograd_weights
from .base_model import check_clip, embedding_width
from .memory import text_layers, text_memory
from .text import OutOfPlaceLayer, encode, word_rows
from .vision import host_clip_space


@contextmanager
def host_text(clip: Any) -> Iterator[HostText]:
    """The wired CLIP as a `TextModel`, outside inference mode, while open; it stays as it was. UserError if it is of another family."""
    check_clip(clip)
    with torch.inference_mode(False), torch.no_grad():
        host = HostText(clip)
        with autograd_weights(host.clip.patcher):
            yield host


class HostText:
    """Implements `hybridbooth_core.models.adapter.TextModel`; see there. Make it with `host_text`.

    Clip skip does not count here: CLIP compares images with the last layer's states alone. LoRAs on the CLIP do.
    """

    def __init__(self, clip: Any):
        self.clip = clip.clone()
        self.clip.layer_idx = None
        for index, layer in enumerate(text_layers(clip)):
            self.clip.patcher.add_object_patch(f"clip_l.transformer.text_model.encoder.layers.{index}", OutOfPlaceLayer(layer))
        self.name = type(clip.cond_stage_model).__name__
        self.embedding_width = embedding_width(clip)
        self.family = family_of_width(self.embedding_width)
        self._room = -1  # bytes that were free after loading

    @property
    def fingerprint(self) -> str:
        return vocabulary_fingerprint(self)

    @property
    def device(self) -> torch.device:
        return self.clip.patcher.load_device

    def token_embeddings(self, text: str) -> Tensor:
        return word_rows(self.clip, text).to(self.device)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> EncodedPrompts:
        """As in the protocol; an interrupt of the person stops it here."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        one_layer_at_a_time = not torch.is_grad_enabled()
        memory = text_memory(self.clip, len(prompts), one_layer_at_a_time)
        if memory > self._room:
            comfy.model_management.load_models_gpu([self.clip.patcher], memory_required=memory)
            self._room = memory
        return encode(self.clip, prompts, self.device)


def clip_space_of(clip: Any, clip_vision: Any = None) -> ClipSpace:
    """The space that a CLIP's texts share with images: the miniature's own, or CLIP ViT-L/14's for Stable Diffusion 1.5.

    Raises:
        UserError: the file of the whole CLIP is missing, or the CLIP_VISION is another network.
    """
    return load_clip_space() if embedding_width(clip) == WIDTH else host_clip_space(clip_vision)
