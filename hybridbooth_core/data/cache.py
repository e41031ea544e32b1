"""What frozen networks see of a stored image, computed once so that training need not.

Everything is a function of the *stored* square and mask, so a trainer that computes it itself gets the same.
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


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """The coder of a text-to-image model, what tells its weights from others, and where it computes."""

    coder: ImageCoder
    fingerprint: str
    device: torch.device | str = "cpu"

    def __call__(self, images: Tensor) -> Tensor:
        return self.coder.encode(images.to(self.device)).to("cpu")


class FeatureCache:
    """Float16 tokens and latents of stored images.

    The reference, which a probe's encoders look at, is the crop that a person's masked image becomes (`features.square_crops`). For a
    share of the images, and for those without a mask, it is the whole square: a probe must also learn from images without masks.
    """

    def __init__(self, encoders: tuple[Encoder, Encoder] | None, autoencoder: Autoencoder | None, whole_share: float):
        """`encoders`: CLIP's and DINO's.

        Raises:
            UserError: `whole_share` lies outside 0..1.
        """
        if not 0 <= whole_share <= 1:
            raise UserError(f"expected a share of whole images from 0 to 1, found {whole_share}")
        self._networks = dict(zip((CLIP, DINO), encoders or (), strict=False))
        self._autoencoder, self._share = autoencoder, whole_share
        self.config: dict[str, Any] = {name: encoder.config for name, encoder in self._networks.items()}
        if autoencoder:
            self.config[LATENTS] = {"fingerprint": autoencoder.fingerprint}
        self.config["whole_share"] = whole_share

    def view(self, name: str, masked: bool) -> str:
        """What the reference of an image is, SUBJECT or WHOLE: by chance, but always the same for one name."""
        chance = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
        return SUBJECT if masked and chance >= self._share else WHOLE

    @torch.no_grad()
    def __call__(self, images: Sequence[bytes], masks: Sequence[bytes | None], views: Sequence[str]) -> list[bytes]:
        """For each of B stored images and masks a safetensors file: `clip` and `dino` [L, C] of its reference, `latents` [C, h, w] of the
        square and, where the reference is another image, `reference_latents` of that.

        Raises:
            UserError: a number does not fit into float16.
        """
        squares = torch.stack([image_tensor(image) for image in images])
        cut = [None if mask is None or view == WHOLE else mask_tensor(mask)[None] for mask, view in zip(masks, views, strict=True)]

        def crops(rows: Sequence[int], size: int) -> Tensor:
            return torch.cat([square_crops(squares[row : row + 1], cut[row], size) for row in rows])

        tensors: list[dict[str, Tensor]] = [{} for _ in images]
        for name, encoder in self._networks.items():
            _share_out(tensors, name, range(len(squares)), encoder.network(crops(range(len(squares)), encoder.network.size)))
        if self._autoencoder:
            _share_out(tensors, LATENTS, range(len(squares)), self._autoencoder(squares))
            others = [row for row, mask in enumerate(cut) if mask is not None]
            if others:
                _share_out(tensors, REFERENCE_LATENTS, others, self._autoencoder(crops(others, squares.shape[1])))
        return [save(halves) for halves in tensors]


def _share_out(tensors: list[dict[str, Tensor]], name: str, rows: Sequence[int], column: Tensor) -> None:
    """Give each of the rows its part of a batch, in float16."""
    for row, tensor in zip(rows, column.half(), strict=True):
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"the {name} of an image hold numbers that float16 cannot; check the model and the encoders")
        tensors[row][name] = tensor.clone(memory_format=torch.contiguous_format)
