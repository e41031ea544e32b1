"""A probe's image encoders on ComfyUI's device, from files or (CLIP) from a CLIP_VISION input."""
# pyright: reportMissingImports=false

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from torch import Tensor, nn

from ...hybridbooth_core.bases import load_encoders
from ...hybridbooth_core.encoders.catalogue import CLIP_L, PROJECTION, SIZE, TOKENS
from ...hybridbooth_core.encoders.clip_space import ClipSpace, load_clip_space
from ...hybridbooth_core.encoders.clip_vit import load_clip_vision
from ...hybridbooth_core.encoders.features import FeatureEncoder
from ...hybridbooth_core.encoders.files import require_encoder
from ...hybridbooth_core.encoders.pixels import BATCH, CLIP_MEAN, CLIP_STD, encode_in_batches, normalise
from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.mappers.mapper import Vision
from ...hybridbooth_core.probe.learner import Reads
from ...hybridbooth_core.report.progress_image import time_left
from .folders import PROBES
from .networks import on_device
from .notices import show_text

PASS = BATCH * (24 << 20)
"""Bytes for a float32 forward pass of ViT-L/14 over a batch, without its weights (measured: 17 MiB per image)."""
OTHERS = {(TOKENS, 1280): "ViT-H/14", (TOKENS, 1664): "ViT-bigG/14", (577, 1024): "ViT-L/14 for 336 pixels"}


def encoder_folders() -> list[Path]:
    """The folders searched for encoders: models/hybridbooth, models/clip_vision, models/diffusers, and extra_model_paths.yaml's."""
    return [Path(path) for kind in (PROBES, "clip_vision", "diffusers") for path in folder_paths.get_folder_paths(kind)]


def host_encoders(config: Reads, clip_vision: Any = None) -> tuple[FeatureEncoder, FeatureEncoder]:
    """The CLIP and the DINO encoder of a probe, with inputs and outputs on the CPU. `clip_vision` replaces the CLIP file.

    Raises:
        UserError: see `load_encoders`; or `clip_vision` is not CLIP ViT-L/14.
    """
    wired = None if clip_vision is None else WiredClipVision(clip_vision)
    clip, dino = load_encoders(config, encoder_folders(), wired, comfy.model_management.get_torch_device())
    return clip if clip is wired else _OnDevice(clip), _OnDevice(dino)


def host_clip_space(clip_vision: Any = None) -> ClipSpace:
    """CLIP ViT-L/14's joint space of images and texts, with the text projection on the CPU. UserError as in `host_encoders`."""
    folders = encoder_folders()
    if clip_vision is not None:
        return load_clip_space(folders, WiredClipVision(clip_vision))
    path = require_encoder(CLIP_L, folders, CLIP_L.whole)
    return load_clip_space(folders, _OnDevice(load_clip_vision(path, comfy.model_management.get_torch_device())))


def host_clip_vision(clip_vision: Any = None, projection: bool = False) -> Vision:
    """CLIP ViT-L/14's vision model, from `clip_vision` or a file (with `projection` if requested). UserError as in `host_encoders`."""
    if clip_vision is not None:
        return WiredClipVision(clip_vision)
    path = require_encoder(CLIP_L, encoder_folders(), [PROJECTION] if projection else [])
    return _OnDevice(load_clip_vision(path, comfy.model_management.get_torch_device()))


class WiredClipVision:
    """ComfyUI's CLIP_VISION as an encoder, with the crop and normalisation that probes are trained with."""

    size, width = SIZE, 1024

    def __init__(self, clip_vision: Any):
        """UserError if `clip_vision` is not CLIP ViT-L/14."""
        embeddings = getattr(getattr(clip_vision.model, "vision_model", None), "embeddings", None)
        positions = getattr(getattr(embeddings, "position_embedding", None), "weight", None)
        shape = None if positions is None else tuple(positions.shape)
        if shape != (TOKENS, self.width):
            kind = type(clip_vision.model).__name__
            found = kind if shape is None else f"{OTHERS.get(shape, kind)} ({shape[0]} tokens of width {shape[1]})"
            raise UserError(
                f"expected {CLIP_L.label} as clip_vision ({TOKENS} tokens of width {self.width}), found {found}; load "
                "clip-vit-large-patch14, or leave the socket empty"
            )
        self._patcher, self._model = clip_vision.patcher, clip_vision.model

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, 224, 224, 3] in 0..1 to the last layer's tokens [B, 257, 1024]."""
        return self._encode(images, 0)

    def embed(self, images: Tensor) -> Tensor:
        """Image embeddings [B, 768] in the joint space with texts; UserError if the file has no projection."""
        if isinstance(self._model.visual_projection, nn.Identity):
            raise UserError(f"this clip_vision lacks {CLIP_L.whole[0]}; use the full {CLIP_L.label} file from {CLIP_L.address}")
        return self._encode(images, 2)

    def states(self, images: Tensor, layers: Sequence[int]) -> Tensor:
        """Hidden states [B, len(layers), 257, 1024] after these layers; the first layer is 1."""
        return self._encode(images, 1, "all")[:, [layer - 1 for layer in layers]]

    def _encode(self, images: Tensor, output: int, intermediate: int | str = -2) -> Tensor:
        """Output 0 is the last hidden state, 1 the `intermediate` ones (by default ComfyUI's choice), 2 the image embedding."""
        comfy.model_management.load_models_gpu([self._patcher], memory_required=PASS)
        like = torch.empty(0, device=self._patcher.load_device)  # float32: ComfyUI casts the weights

        def encode(pixels: Tensor) -> Tensor:
            return self._model(pixel_values=pixels, intermediate_output=intermediate)[output]

        return encode_in_batches(encode, normalise(images, CLIP_MEAN, CLIP_STD), like, self.size)


class _OnDevice:
    """An encoder that is on ComfyUI's device only while it computes."""

    def __init__(self, encoder: Any):
        self._encoder, self.size = encoder, encoder.size
        self.width: int = encoder.width

    def __call__(self, images: Tensor) -> Tensor:
        return self._run(self._encoder, images)

    def embed(self, images: Tensor) -> Tensor:
        return self._run(self._encoder.embed, images)

    def states(self, images: Tensor, layers: Sequence[int]) -> Tensor:
        return self._run(lambda moved: self._encoder.states(moved, layers), images)

    def _run(self, encode: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        with on_device(self._encoder, PASS) as device:
            return encode(images.to(device)).to(images.device)


def download_progress(total: int) -> Callable[[int, int], None]:
    """A callback that shows how far a download is and how long it will take, and raises if the user has cancelled."""
    bar = comfy.utils.ProgressBar(total)
    began: list[float] = []  # the time, and the bytes that were there before

    def on_bytes(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        now = time.monotonic()
        if not began:
            began[:] = [now, done]
        bar.update_absolute(done, total)
        left = time_left(now - began[0], int(done - began[1]), int(total - began[1]))
        show_text(f"{done / 1e6:.0f} of {total / 1e6:.0f} MB{left}")

    return on_bytes


def download_folder() -> Path:
    """The folder for downloads."""
    return Path(folder_paths.get_folder_paths(PROBES)[0])
