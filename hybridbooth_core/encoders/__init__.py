"""The image encoders that probes read with, found by the ids in a probe's file.

`catalogue` says which there are, `files` finds them on this machine, `download` fetches them, `clip_vit` and `dinov2` compute them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import UserError
from ..probe.probe import ProbeConfig
from .catalogue import CATALOGUE, CLIP_L, EncoderFile
from .features import FeatureEncoder
from .files import require_encoder


def load_encoders(
    config: ProbeConfig, folders: Sequence[Path] = (), clip_vision: FeatureEncoder | None = None, device: torch.device | str = "cpu"
) -> tuple[FeatureEncoder, FeatureEncoder]:
    """The CLIP and the DINO encoder of a probe, on the CPU. Nothing is fetched.

    Args:
        folders: where published encoders' files are looked for, under any name.
        clip_vision: reads the CLIP tokens in place of a file.
        device: where they will be moved to compute, which decides their precision (see `precision`).
    Raises:
        UserError: a file is missing or damaged, the probe names an encoder that this version does not know, or other widths than its own.
    """
    clip_file, dino_file = _known(config.clip, CLIP_L.id), _known(config.dino, "timm/")
    clip = clip_vision or _load(clip_file, folders, device)
    dino = _load(dino_file, folders, device)
    found, wanted = (clip.width, dino.width), (config.clip_width, config.dino_width)
    if found != wanted:
        raise UserError(f"the probe reads tokens of widths {wanted}, but its encoders make {found}; the probe file is damaged")
    return clip, dino


def _known(name: str, kind: str) -> EncoderFile:
    entry = CATALOGUE.get(name)
    if entry is None or not name.startswith(kind):
        known = ", ".join(other for other in CATALOGUE if other.startswith(kind))
        raise UserError(f"the probe reads images with {name[:80]!r}, this version of the pack with {known}; update the pack")
    return entry


def _load(entry: EncoderFile, folders: Sequence[Path], device: torch.device | str):
    from .clip_vit import load_clip_vision
    from .dinov2 import load_dinov2

    path = require_encoder(entry, folders)
    return load_clip_vision(path, device) if entry is CLIP_L else load_dinov2(path, entry, device)
