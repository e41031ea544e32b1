"""Loads the published CLIP and DINOv2 from local files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..models.fingerprint import weights_fingerprint
from .catalogue import CATALOGUE, CLIP_L, DINOV2_B, DINOV2_L, DINOV2_S
from .clip_vit import load_clip_vision
from .dinov2 import load_dinov2
from .features import FeatureEncoder
from .files import require_encoder

DINO_SIZES = {"L": DINOV2_L.id, "B": DINOV2_B.id, "S": DINOV2_S.id}


@dataclass(frozen=True, eq=False)
class Encoder:
    """An image encoder and its id in a probe's configuration."""

    id: str
    network: FeatureEncoder

    @property
    def config(self) -> dict[str, Any]:
        """Its entry in the index of cached features: `id`, `width`, `fingerprint`."""
        fingerprint = weights_fingerprint(self.network) if isinstance(self.network, torch.nn.Module) else ""
        return {"id": self.id, "width": self.network.width, "fingerprint": fingerprint}


def find_encoders(folders: Sequence[Path], dino: str, device: torch.device | str) -> tuple[Encoder, Encoder]:
    """Loads CLIP ViT-L/14 and DINOv2 of a size (a key of DINO_SIZES) from these folders, under any file name.

    Raises:
        UserError: a file is missing or damaged.
    """
    entry = CATALOGUE[DINO_SIZES[dino]]
    clip_path, dino_path = require_encoder(CLIP_L, folders), require_encoder(entry, folders)
    clip = load_clip_vision(clip_path, device).to(device)
    return Encoder(CLIP_L.id, clip), Encoder(entry.id, load_dinov2(dino_path, entry, device).to(device))
