"""Masks for images that have none: InSPyReNet (Kim et al. 2022), through the optional package transparent-background.

It finds what is salient, so a subject that does not stand out, or several at once, come out wrong; a given mask always goes first.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from PIL import Image

from ..errors import UserError

MODES = ("base", "fast", "base-nightly")


class Remover(Protocol):
    """What is used of `transparent_background.Remover`."""

    def process(self, img: Any, type: str = ...) -> Any:
        """An RGB image; with the type "map", how much each pixel belongs to the subject as an RGB image of the same size."""
        ...


class MaskMaker:
    """Images to soft masks, one at a time whoever asks: the network holds one image's numbers."""

    def __init__(self, remover: Remover, config: dict[str, str]):
        """`config`: what tells this network from others, for the shards."""
        self.config = config
        self._remover, self._turn = remover, Lock()

    def __call__(self, image: Image.Image) -> Image.Image:
        """RGB to a grey image of the same size, 255 on the subject."""
        with self._turn:
            return self._remover.process(image, type="map").convert("L")


def load_mask_maker(weights: Path, mode: str = "base", device: str | None = None) -> MaskMaker:
    """InSPyReNet from a file. Nothing is fetched; the package reads it as weights alone, nothing in it is run.

    Args:
        weights: ckpt_base.pth, ckpt_fast.pth or ckpt_base_nightly.pth of the package's releases.
        mode: which of them it is.
        device: as torch names it; None takes a GPU where there is one.
    Raises:
        UserError: the package is missing, or the file is missing or another network's.
    """
    if mode not in MODES:
        raise UserError(f"expected a mask mode of {', '.join(MODES)}, found {mode!r}")
    try:
        with weights.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 22):
                digest.update(block)
    except OSError as error:
        raise UserError(
            f"the mask network's weights {weights} cannot be read ({error.strerror}); get ckpt_{mode.replace('-', '_')}.pth from the "
            "releases of github.com/plemeri/transparent-background"
        ) from error
    try:
        from transparent_background import Remover as InSPyReNet  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError('making masks needs the package transparent-background; run: pip install "hybridbooth[prep]"') from error
    try:
        remover = InSPyReNet(mode=mode, device=device, ckpt=str(weights))
    except Exception as error:  # torch and the package have no error in common for weights that do not fit
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"{weights} cannot be loaded as InSPyReNet's {mode} weights ({reason}); choose its mode or get it again") from error
    return MaskMaker(remover, {"network": f"InSPyReNet {mode}", "sha256": digest.hexdigest()})
