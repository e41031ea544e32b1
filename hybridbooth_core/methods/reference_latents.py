"""Reference images as the trained systems see them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..encoders.features import Reference, target_squares
from ..models.adapter import DiffusionModel


@torch.no_grad()
def image_latents(model: DiffusionModel, ref: Reference) -> Tensor:
    """Latents [R, C, h, w] of the R reference images, background and all: the published systems know no masks.

    A mask only says where the square is cut.
    """
    return model.encode_image(target_squares(ref, model.image_size).images).clone()
