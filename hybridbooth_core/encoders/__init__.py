"""The image encoders of probes.

`catalogue` lists the published encoders, `files` finds them on this machine, `download` downloads them, `clip_vit` and `dinov2` load them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import UserError
from ..probe.learner import Reads
from .catalogue import CATALOGUE, CLIP_L, EncoderFile
from .features import FeatureEncoder
from .files import require_encoder


def load_encoders(
    config: Reads, folders: Sequence[Path] = (), clip_vision: FeatureEncoder | None = None, device: torch.device | str = "cpu"
) -> tuple[FeatureEncoder, FeatureEncoder]:
    """Loads the CLIP and the DINO encoder of a probe on the CPU, from local files.

    Args:
        folders: searched for the encoders' files, under any name.
        clip_vision: used instead of a CLIP file.
        device: the device they will run on, which determines the dtype (see `precision`).
    Raises:
        UserError: a file is missing or damaged, or the probe's configuration has an unknown encoder or wrong widths.
    """
    clip_file, dino_file = _known(config.clip, CLIP_L.id), _known(config.dino, "timm/")
    clip = clip_vision or _load(clip_file, folders, device)
    dino = _load(dino_file, folders, device)
    found, wanted = (clip.width, dino.width), (config.clip_width, config.dino_width)
    if found != wanted:
        raise UserError(f"expected encoders with tokens of widths {wanted}, found {found}; the probe file is damaged, get it again")
    return clip, dino


def _known(name: str, kind: str) -> EncoderFile:
    entry = CATALOGUE.get(name)
    if entry is None or not name.startswith(kind):
        known = ", ".join(other for other in CATALOGUE if other.startswith(kind))
        raise UserError(f"expected one of the encoders {known} in the probe, found {name[:80]!r}; update the pack")
    return entry


def _load(entry: EncoderFile, folders: Sequence[Path], device: torch.device | str):
    from .clip_vit import load_clip_vision
    from .dinov2 import load_dinov2

    path = require_encoder(entry, folders)
    return load_clip_vision(path, device) if entry is CLIP_L else load_dinov2(path, entry, device)
