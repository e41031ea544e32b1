"""CLIP's vision transformer (Radford et al. 2021): an image's tokens, and its embedding in the joint space with texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..files.safetensors import read_header, read_tensors
from .catalogue import CLIP_L, PROJECTION, TEXT_PROJECTION
from .files import MAX_BYTES
from .pixels import CLIP_MEAN, CLIP_STD, encode_in_batches, normalise
from .precision import weights_dtype


@dataclass(frozen=True)
class ClipSize:
    """The architecture of one published CLIP model, and its hub repository."""

    key: str
    hub: str
    patch: int
    layers: int
    width: int  # of the vision transformer
    heads: int
    text_width: int
    text_heads: int
    projection: int
    image: int = 224  # pixels a side

    @property
    def vision(self) -> dict[str, int]:
        """Keyword arguments of transformers' CLIPVisionConfig."""
        return {
            "hidden_size": self.width, "intermediate_size": 4 * self.width, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "patch_size": self.patch, "image_size": self.image, "projection_dim": self.projection,
        }  # fmt: skip


CLIP_B32 = ClipSize("b32", "openai/clip-vit-base-patch32", 32, 12, 768, 12, 512, 8, 512)
CLIP_L14 = ClipSize("l14", CLIP_L.id, 14, 24, 1024, 16, 768, 12, 768)


class ClipVision(nn.Module):
    """Encodes images [B, size, size, 3] in 0..1 to the last layer's tokens [B, 1 + N, width], before the final norm."""

    def __init__(self, network: Any, size: int, width: int):
        """`network`: transformers' CLIPVisionModelWithProjection; its projection may be None if `embed` is not used."""
        super().__init__()
        self.network, self.size, self.width = network, size, width

    def forward(self, images: Tensor) -> Tensor:
        return self._encode(lambda pixels: self.network.vision_model(pixel_values=pixels).last_hidden_state, images)

    def embed(self, images: Tensor) -> Tensor:
        """Image embeddings [B, P] in the joint space with texts, not normalised.

        Raises:
            UserError: the file had no projection.
        """
        project = self.network.visual_projection
        if project is None:
            raise UserError(f"this CLIP vision file lacks {PROJECTION}; use the full {CLIP_L.label} file from {CLIP_L.address}")
        return self._encode(lambda pixels: project(self.network.vision_model(pixel_values=pixels).pooler_output), images)

    def states(self, images: Tensor, layers: Sequence[int]) -> Tensor:
        """Hidden states [B, len(layers), 1 + N, width] after these layers; 0 is the first layer's input."""

        def encode(pixels: Tensor) -> Tensor:
            states = self.network.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
            return torch.stack([states[layer] for layer in layers], 1)

        return self._encode(encode, images)

    def _encode(self, encode: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        like = self.network.vision_model.embeddings.patch_embedding.weight
        return encode_in_batches(encode, normalise(images, CLIP_MEAN, CLIP_STD), like, self.size)


def new_clip_vision(size: ClipSize = CLIP_L14) -> ClipVision:
    """An untrained network on torch's default device."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return ClipVision(CLIPVisionModelWithProjection(CLIPVisionConfig(**size.vision)), size.image, size.width)  # type: ignore[arg-type]


def load_clip_vision(path: Path, device: torch.device | str = "cpu", size: ClipSize = CLIP_L14) -> ClipVision:
    """Loads a file's vision transformer on the CPU, in eval mode and frozen.

    Args:
        path: a whole CLIP model, its vision model with or without projection, or ComfyUI's CLIP vision file; all use the same names.
        device: the device it will run on, which determines the dtype (see `weights_dtype`).
    Raises:
        UserError: the file is damaged or contains another network.
    """
    what = "CLIP vision model"
    header, _ = read_header(path, what, MAX_BYTES)
    with torch.device("meta"):
        vision = new_clip_vision(size)
    expected = {name: list(tensor.shape) for name, tensor in vision.network.state_dict().items()}
    if PROJECTION not in header:
        del expected[PROJECTION]
        vision.network.visual_projection = None
    tensors = read_tensors(path, what, header, expected, others=True, dtype=weights_dtype(header, expected, device))
    vision.network.load_state_dict(tensors, assign=True)
    embeddings = vision.network.vision_model.embeddings
    embeddings.position_ids = torch.arange(embeddings.position_ids.shape[-1])[None]  # a buffer that no file contains
    return vision.eval().requires_grad_(False)


def load_text_projection(path: Path, size: ClipSize = CLIP_L14) -> nn.Linear:
    """The text projection of a whole CLIP file, which maps end-of-text states [B, d] to [B, P]; float32 and frozen.

    Raises:
        UserError: the file has no text projection.
    """
    what = "CLIP with its text projection"
    header, _ = read_header(path, what, MAX_BYTES)
    tensors = read_tensors(path, what, header, {TEXT_PROJECTION: [size.projection, size.text_width]}, others=True)
    with torch.device("meta"):
        project = nn.Linear(size.text_width, size.projection, bias=False)
    project.load_state_dict({"weight": tensors[TEXT_PROJECTION]}, assign=True)
    return project.requires_grad_(False)
