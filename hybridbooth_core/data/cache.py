"""Encoder tokens and latents of stored images, computed once so that training does not need the frozen networks.

They are computed from the *stored* square and mask, so a trainer without a cache gets the same features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ..encoders.features import square_crops
from ..encoders.published import Encoder
from ..errors import UserError
from ..models.diffusers_adapter import ImageCoder
from .decode import image_tensor, mask_tensor
from .shards import CLIP, DINO, LATENTS, REFERENCE_LATENTS, SUBJECT, WHOLE

WHOLE_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """The autoencoder of a text-to-image model, the fingerprint of its weights, and its device. Calling it encodes images to latents."""

    coder: ImageCoder
    fingerprint: str
    device: torch.device | str = "cpu"

    def __call__(self, images: Tensor) -> Tensor:
        return self.coder.encode(images.to(self.device)).to("cpu")


class FeatureCache:
    """Computes float16 tokens and latents of stored images.

    The reference, which the encoders see, is the same crop of the subject as at inference (`features.square_crops`). For a fraction of
    the images, and for those without a mask, it is the whole square, so that a probe also learns from unmasked images.
    """

    def __init__(self, encoders: tuple[Encoder, Encoder] | None, autoencoder: Autoencoder | None, whole_share: float = WHOLE_SHARE):
        """
        Args:
            encoders: CLIP and DINOv2, or None to cache no tokens. autoencoder: None to cache no latents.
            whole_share: fraction of the masked images whose reference is the whole square.
        Raises:
            UserError: `whole_share` is not within 0..1.
        """
        if not 0 <= whole_share <= 1:
            raise UserError(f"expected a fraction of whole images from 0 to 1, found {whole_share}")
        self._networks = dict(zip((CLIP, DINO), encoders or (), strict=False))
        self._autoencoder, self._share = autoencoder, whole_share
        self.config: dict[str, Any] = {name: encoder.config for name, encoder in self._networks.items()}
        if autoencoder:
            self.config[LATENTS] = {"fingerprint": autoencoder.fingerprint}
        self.config["whole_share"] = whole_share

    def view(self, name: str, masked: bool) -> str:
        """The kind of reference of an image, SUBJECT or WHOLE: random, but the same each time for the same name."""
        chance = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
        return SUBJECT if masked and chance >= self._share else WHOLE

    @torch.no_grad()
    def __call__(self, images: Sequence[bytes], masks: Sequence[bytes | None], views: Sequence[str]) -> list[bytes]:
        """One safetensors file for each of B stored images and masks.

        It contains `clip` and `dino` [L, C] of the reference, `latents` [C, h, w] of the square and, if the reference is a crop,
        `reference_latents` of the crop.

        Raises:
            UserError: a value overflows float16.
        """
        squares = torch.stack([image_tensor(image) for image in images])
        used_masks = [None if mask is None or view == WHOLE else mask_tensor(mask)[None] for mask, view in zip(masks, views, strict=True)]

        def crops(rows: Sequence[int], size: int) -> Tensor:
            return torch.cat([square_crops(squares[row : row + 1], used_masks[row], size) for row in rows])

        tensors: list[dict[str, Tensor]] = [{} for _ in images]
        for name, encoder in self._networks.items():
            _assign(tensors, name, range(len(squares)), encoder.network(crops(range(len(squares)), encoder.network.size)))
        if self._autoencoder:
            _assign(tensors, LATENTS, range(len(squares)), self._autoencoder(squares))
            others = [row for row, mask in enumerate(used_masks) if mask is not None]
            if others:
                _assign(tensors, REFERENCE_LATENTS, others, self._autoencoder(crops(others, squares.shape[1])))
        return [save(halves) for halves in tensors]


def _assign(tensors: list[dict[str, Tensor]], name: str, rows: Sequence[int], column: Tensor) -> None:
    """Adds a batch [B, ...] under `name` to the tensors of its rows, in float16."""
    for row, tensor in zip(rows, column.half(), strict=True):
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"float16 overflows in the {name} of an image; check the model and the encoders")
        tensors[row][name] = tensor.clone(memory_format=torch.contiguous_format)
