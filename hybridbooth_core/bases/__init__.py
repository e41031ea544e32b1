"""The base models that HybridBooth works on: `load_base("miniature")`, `load_base("v1-5-pruned-emaonly.safetensors")`.

A new base is one file with a subclass of `Base`, and one line in BASES.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .base import Base, SamplingDefaults
from .miniature import Miniature
from .sd15 import StableDiffusion15

if TYPE_CHECKING:
    import torch

    from ..encoders.features import FeatureEncoder
    from ..probe.learner import Reads

__all__ = ["BASES", "Base", "SamplingDefaults", "family_of_width", "load_base", "load_encoders"]

BASES: tuple[type[Base], ...] = (Miniature, StableDiffusion15)
DTYPES = tuple(dict.fromkeys(dtype for kind in BASES for dtype in kind.dtypes))


def load_base(
    source: str | Path = "miniature", *, device: str | None = None, dtype: str | None = None, comfyui: str | Path | None = None
) -> Base:
    """A base model, ready to use. Nothing is fetched from the network.

    Args:
        source: "miniature"; a diffusers folder; a stock `.safetensors` checkpoint of Stable Diffusion 1.5; the id of a hub repository
            that is in the local cache; or, with `comfyui`, the name of a checkpoint there.
        device: such as "cpu" or "cuda:1"; None takes a GPU where there is one.
        dtype: of the denoiser: "float32", "float16" or "bfloat16"; None takes float16 on CUDA and float32 elsewhere. The text encoder
            and the autoencoder stay in float32, since gradients to the embeddings pass the text encoder.
        comfyui: a ComfyUI folder, whose checkpoints and CLIP vocabulary are found.
    Raises:
        UserError: there is no such model, it is of another family, or the device or dtype cannot be used.
    """
    import torch

    from ..models.device import compute_device, default_dtype

    source, place = str(source), compute_device(device)
    kind = next((kind for kind in BASES if kind.recognises(source)), BASES[-1])
    if dtype is not None and dtype not in kind.dtypes:
        raise UserError(f"{kind.title} computes in {' or '.join(kind.dtypes)}, found the dtype {dtype[:40]!r}; leave --dtype out")
    fitting = str(default_dtype(place)).removeprefix("torch.")
    chosen = dtype or (fitting if fitting in kind.dtypes else kind.dtypes[0])
    return kind.load(source, place, getattr(torch, chosen), Path(comfyui) if comfyui else None)


def family_of_width(width: int) -> str:
    """The family whose token embeddings have this width; "" where none has. A host that knows no more than the width asks this."""
    return next((kind.family for kind in BASES if kind.width == width), "")


def load_encoders(
    config: Reads, folders: Sequence[Path] = (), clip_vision: FeatureEncoder | None = None, device: torch.device | str = "cpu"
) -> tuple[FeatureEncoder, FeatureEncoder]:
    """The CLIP and the DINO encoder of a probe, whichever base it is for; see `encoders.load_encoders`."""
    kind = next(kind for kind in BASES if kind.reads_with(config))
    return kind.encoders(config, folders, clip_vision, device)
