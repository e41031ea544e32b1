"""The adapter of a CLIP input alone, for initial embeddings in CLIP's joint space. Gradients flow through it."""
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
from .text import OutOfPlaceLayer, encode, token_rows
from .vision import host_clip_space


@contextmanager
def host_text(clip: Any) -> Iterator[HostText]:
    """While open, yields the CLIP as a `TextModel`, outside inference mode. UserError unless it is Stable Diffusion 1.5's."""
    check_clip(clip)
    with torch.inference_mode(False), torch.no_grad():
        host = HostText(clip)
        with autograd_weights(host.clip.patcher):
            yield host


class HostText:
    """Implements the core's `TextModel`; see there. Create it with `host_text`.

    Ignores clip skip, since CLIP's joint space uses the last layer. LoRAs on the CLIP apply.
    """

    def __init__(self, clip: Any):
        self.clip = clip.clone()
        self.clip.layer_idx = None
        for index, layer in enumerate(text_layers(clip)):
            self.clip.patcher.add_object_patch(f"clip_l.transformer.text_model.encoder.layers.{index}", OutOfPlaceLayer(layer))
        self.name = type(clip.cond_stage_model).__name__
        self.embedding_width = embedding_width(clip)
        self.family = family_of_width(self.embedding_width)
        self._available = -1  # bytes requested when the model was last loaded

    @property
    def fingerprint(self) -> str:
        return vocabulary_fingerprint(self)

    @property
    def device(self) -> torch.device:
        return self.clip.patcher.load_device

    def token_embeddings(self, text: str) -> Tensor:
        return token_rows(self.clip, text).to(self.device)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> EncodedPrompts:
        """See `TextModel.encode_prompts`. Raises ComfyUI's interrupt exception if the user has cancelled."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        memory = text_memory(self.clip, len(prompts), checkpointing=not torch.is_grad_enabled())  # a layer at a time without gradients
        if memory > self._available:
            comfy.model_management.load_models_gpu([self.clip.patcher], memory_required=memory)
            self._available = memory
        return encode(self.clip, prompts, self.device)


def clip_space_of(clip: Any, clip_vision: Any = None) -> ClipSpace:
    """The joint space of a CLIP's texts and images: the miniature's, or CLIP ViT-L/14's for Stable Diffusion 1.5.

    Raises:
        UserError: the full CLIP file is missing, or `clip_vision` is not CLIP ViT-L/14.
    """
    return load_clip_space() if embedding_width(clip) == WIDTH else host_clip_space(clip_vision)
