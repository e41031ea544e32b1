"""CLIP's vision transformer (Radford et al. 2021): the tokens of an image, and the image's place in the space shared with texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..files.safetensors import read_header, read_tensors
from .catalogue import CLIP_L, PROJECTION, TEXT_PROJECTION
from .files import MAX_BYTES
from .pixels import CLIP_MEAN, CLIP_STD, normalised, seen
from .precision import weights_dtype


@dataclass(frozen=True)
class ClipSize:
    """One published CLIP network: where it is, and what tells it from others."""

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
        """The vision transformer in the words of transformers."""
        return {
            "hidden_size": self.width, "intermediate_size": 4 * self.width, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "patch_size": self.patch, "image_size": self.image, "projection_dim": self.projection,
        }  # fmt: skip


CLIP_B32 = ClipSize("b32", "openai/clip-vit-base-patch32", 32, 12, 768, 12, 512, 8, 512)
CLIP_L14 = ClipSize("l14", CLIP_L.id, 14, 24, 1024, 16, 768, 12, 768)


class ClipVision(nn.Module):
    """Images [B, size, size, 3] in 0..1 to the last layer's tokens [B, 1 + N, width], before the final norm and the projection."""

    def __init__(self, network: Any, size: int, width: int):
        """`network`: transformers' CLIPVisionModelWithProjection; its projection may be None if only tokens are wanted."""
        super().__init__()
        self.network, self.size, self.width = network, size, width

    def forward(self, images: Tensor) -> Tensor:
        return self._seen(lambda pixels: self.network.vision_model(pixel_values=pixels).last_hidden_state, images)

    def embed(self, images: Tensor) -> Tensor:
        """Images to their places [B, P] in the space shared with texts, of any length: the first token, normed and projected.

        Raises:
            UserError: the weights came without the projection.
        """
        project = self.network.visual_projection
        if project is None:
            raise UserError(f"this CLIP vision file lacks {PROJECTION}; use the whole file of {CLIP_L.label} from {CLIP_L.address}")
        return self._seen(lambda pixels: project(self.network.vision_model(pixel_values=pixels).pooler_output), images)

    def states(self, images: Tensor, layers: Sequence[int]) -> Tensor:
        """The tokens [B, len(layers), 1 + N, width] after these layers, 0 being what the first layer reads."""

        def look(pixels: Tensor) -> Tensor:
            states = self.network.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
            return torch.stack([states[layer] for layer in layers], 1)

        return self._seen(look, images)

    def _seen(self, look: Any, images: Tensor) -> Tensor:
        like = self.network.vision_model.embeddings.patch_embedding.weight
        return seen(look, normalised(images, CLIP_MEAN, CLIP_STD), like, self.size)


def new_clip_vision(size: ClipSize = CLIP_L14) -> ClipVision:
    """The layout, on torch's default device, with whatever weights transformers starts from."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return ClipVision(CLIPVisionModelWithProjection(CLIPVisionConfig(**size.vision)), size.image, size.width)  # type: ignore[arg-type]


def load_clip_vision(path: Path, device: torch.device | str = "cpu", size: ClipSize = CLIP_L14) -> ClipVision:
    """The vision transformer of a file, in eval mode and frozen, on the CPU.

    Args:
        path: the whole CLIP, its vision half with or without the projection, or a stock CLIP vision model of ComfyUI: all name it alike.
        device: where it will compute, which decides the precision (see `weights_dtype`).
    Raises:
        UserError: the file is damaged or holds another network.
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
    embeddings.position_ids = torch.arange(embeddings.position_ids.shape[-1])[None]  # no file holds it, and meta has no numbers
    return vision.eval().requires_grad_(False)


def load_text_projection(path: Path, size: ClipSize = CLIP_L14) -> nn.Linear:
    """The map of end-of-text states [B, d] to [B, P] in a file that holds the whole CLIP, float32 and frozen; UserError if it does not."""
    what = "CLIP with its text projection"
    header, _ = read_header(path, what, MAX_BYTES)
    tensors = read_tensors(path, what, header, {TEXT_PROJECTION: [size.projection, size.text_width]}, others=True)
    with torch.device("meta"):
        project = nn.Linear(size.text_width, size.projection, bias=False)
    project.load_state_dict({"weight": tensors[TEXT_PROJECTION]}, assign=True)
    return project.requires_grad_(False)
