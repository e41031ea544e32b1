"""The autoencoder of a feature cache, from files on this machine. Nothing is fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..data.cache import Autoencoder
from ..errors import UserError
from ..models.fingerprint import weights_fingerprint
from ..models.from_pipeline import PipelineCoder

FAMILY = "StableDiffusionPipeline"


def load_autoencoder(folder: Path, device: torch.device | str) -> Autoencoder:
    """The autoencoder of a Stable Diffusion 1.5 in a folder of diffusers, float32; the model's other parts are not read.

    Raises:
        UserError: it is no such folder, of another family, or its autoencoder cannot be read.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    try:
        family: Any = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"expected a folder of diffusers, but {folder} has no model_index.json that can be read; check the path") from error
    if family != FAMILY:
        raise UserError(f"expected a {FAMILY}, found {str(family)[:80]} in {folder}; use a plain Stable Diffusion 1.5 model")
    try:
        vae = AutoencoderKL.from_pretrained(folder / "vae", use_safetensors=True, local_files_only=True, torch_dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"the autoencoder in {folder} cannot be read ({reason}); it must be there as .safetensors") from error
    vae = vae.to(device).eval().requires_grad_(False)  # type: ignore[call-arg]
    return Autoencoder(PipelineCoder(vae), weights_fingerprint(vae), device)
