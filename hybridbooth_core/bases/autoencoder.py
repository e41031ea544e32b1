"""The autoencoder of a Stable Diffusion 1.5 alone, for caching latents; the model's other parts are not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..data.cache import Autoencoder
from ..errors import UserError
from ..models.fingerprint import weights_fingerprint
from ..models.from_pipeline import PipelineCoder
from .checkpoint import load_vae
from .sd15 import check_folder, find_source


def load_autoencoder(source: str | Path, device: torch.device | str, comfyui: Path | None = None) -> Autoencoder:
    """The autoencoder of a diffusers folder or a checkpoint, float32.

    Raises:
        UserError: there is no such model, it is of another family, or its autoencoder cannot be read.
    """
    path = find_source(str(source), comfyui)
    vae = torch.nn.Module.to(_of_folder(path) if path.is_dir() else load_vae(path), device, torch.float32).eval().requires_grad_(False)
    return Autoencoder(PipelineCoder(vae), weights_fingerprint(vae), device)


def _of_folder(folder: Path) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    check_folder(folder)
    try:
        return AutoencoderKL.from_pretrained(folder / "vae", use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"the autoencoder in {folder} cannot be read ({reason}); it must be there as .safetensors") from error
