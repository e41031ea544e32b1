"""Makes masks for images without one: InSPyReNet (Kim et al. 2022) in the optional package transparent-background.

It segments what is salient, so it fails for inconspicuous subjects and for several subjects. Existing masks take precedence.
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
    """The part of `transparent_background.Remover` that is used."""

    def process(self, img: Any, type: str = ...) -> Any:
        """With type "map": the soft mask of an RGB image as an RGB image of the same size."""
        ...


class MaskMaker:
    """Computes soft masks. Thread-safe: images take turns, so that only one is in memory."""

    def __init__(self, remover: Remover, config: dict[str, str]):
        """`config`: identifies the network in the shards' index."""
        self.config = config
        self._remover, self._lock = remover, Lock()

    def __call__(self, image: Image.Image) -> Image.Image:
        """The mask of an RGB image: grey, of the same size, 255 on the subject."""
        with self._lock:
            return self._remover.process(image, type="map").convert("L")


def load_mask_maker(weights: Path, mode: str = "base", device: str | None = None) -> MaskMaker:
    """InSPyReNet from a file. Nothing is downloaded; the package loads it with `weights_only`, so it cannot run code.

    Args:
        weights: ckpt_base.pth, ckpt_fast.pth or ckpt_base_nightly.pth of the package's releases.
        mode: which of the three it is.
        device: a torch device; None takes a GPU if there is one.
    Raises:
        UserError: the package or the file is missing, or the file does not fit the mode.
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
    except Exception as error:  # torch and the package raise different types for weights that do not fit
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"{weights} cannot be loaded as InSPyReNet {mode} ({reason}); choose another mode or get it again") from error
    return MaskMaker(remover, {"network": f"InSPyReNet {mode}", "sha256": digest.hexdigest()})
