"""DINOv2 (Oquab et al. 2023) as published by timm, at 224 pixels: the same grid of tokens as CLIP ViT-L/14."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..files.safetensors import read_header, read_tensors
from .catalogue import GRID, SIZE, EncoderFile
from .files import MAX_BYTES
from .pixels import IMAGENET_MEAN, IMAGENET_STD, encode_in_batches, normalise
from .precision import weights_dtype

POSITIONS = "pos_embed"


class Dinov2(nn.Module):
    """Encodes images [B, 224, 224, 3] in 0..1 to the last layer's tokens [B, 257, width], after the final norm."""

    size = SIZE

    def __init__(self, network: Any):
        """`network`: timm's VisionTransformer without a classifier."""
        super().__init__()
        self.network, self.width = network, network.embed_dim

    def forward(self, images: Tensor) -> Tensor:
        pixels = normalise(images, IMAGENET_MEAN, IMAGENET_STD)
        return encode_in_batches(self.network.forward_features, pixels, self.network.patch_embed.proj.weight, self.size)


def load_dinov2(path: Path, entry: EncoderFile, device: torch.device | str = "cpu") -> Dinov2:
    """Loads a file's network on the CPU, in eval mode and frozen. Resamples its position embeddings from 37x37 to 16x16 as timm does.

    Args:
        device: the device it will run on, which determines the dtype (see `weights_dtype`).
    Raises:
        UserError: the file is damaged or contains another network, or timm is not installed.
    """
    header, _ = read_header(path, entry.label, MAX_BYTES)
    network, resample = _create(entry)
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    expected = {**shapes, POSITIONS: list(entry.signature[POSITIONS])}
    tensors = read_tensors(path, entry.label, header, expected, others=True, dtype=weights_dtype(header, expected, device))
    tensors[POSITIONS] = resample(tensors[POSITIONS], new_size=[GRID, GRID], num_prefix_tokens=1)
    network.load_state_dict(tensors, assign=True)
    return Dinov2(network).eval().requires_grad_(False)


def _create(entry: EncoderFile) -> tuple[Any, Any]:
    """timm's network without weights, and timm's function that resamples position embeddings."""
    try:
        import timm
        from timm.layers.pos_embed import resample_abs_pos_embed
    except ImportError as error:
        raise UserError(f"{entry.label} needs timm, which is not installed; run: pip install timm") from error

    def make() -> Any:
        return timm.create_model(entry.id.split("/")[1], pretrained=False, num_classes=0, img_size=SIZE)

    try:
        with torch.device("meta"):
            return make(), resample_abs_pos_embed
    except RuntimeError:  # early versions of timm 1 read a tensor's value at construction, which meta tensors cannot; takes seconds
        return make(), resample_abs_pos_embed
