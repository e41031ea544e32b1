"""The model that is evaluated: a folder of diffusers, or one `.safetensors` checkpoint of Stable Diffusion 1.5. Nothing is fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..models.diffusers_adapter import DiffusersModel
from ..models.from_pipeline import model_of

FAMILY = "StableDiffusionPipeline"


def load_model(path: Path, device: torch.device | str = "cpu") -> DiffusersModel:
    """The model behind the seam, float32 on a device, frozen, called by the name of its folder or file.

    Raises:
        UserError: there is no such folder or file, it is of another family or holds no safetensors; or, for a single checkpoint, the
            configuration and tokenizer that it does not hold are not in the cache of the Hugging Face hub.
    """
    if path.is_dir():
        pipeline = _folder(path)
    elif path.suffix.lower() == ".safetensors" and path.is_file():
        pipeline = _checkpoint(path)
    else:
        raise UserError(
            f"expected a folder of diffusers or a .safetensors checkpoint of Stable Diffusion 1.5, found {path}; check the path"
        )
    pipeline.set_progress_bar_config(disable=True)
    return model_of(pipeline.to(device, torch.float32), path.stem if path.is_file() else path.resolve().name)


def _settings() -> dict[str, Any]:
    # without a safety checker: it would blacken images, and it is one more network to have
    return {"safety_checker": None, "requires_safety_checker": False, "local_files_only": True}


def _folder(path: Path) -> Any:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    try:
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
        family = index.get("_class_name") if isinstance(index, dict) else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no folder of diffusers (it has no readable model_index.json); save the pipeline there again") from error
    if family != FAMILY:
        raise UserError(f"expected a {FAMILY}, found {str(family)[:80]} in {path}; use a plain Stable Diffusion 1.5 model")
    try:
        return StableDiffusionPipeline.from_pretrained(path, use_safetensors=True, feature_extractor=None, **_settings())
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"the model {path} cannot be loaded ({_reason(error)}); it must hold its weights as .safetensors") from error


def _checkpoint(path: Path) -> Any:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    try:
        return StableDiffusionPipeline.from_single_file(str(path), **_settings())
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(
            f"the checkpoint {path} cannot be loaded ({_reason(error)}); it also needs SD1.5's configuration and tokenizer in the hub's "
            'cache, by: hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --include "*.json" "*.txt"; or give a folder of diffusers'
        ) from error


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
