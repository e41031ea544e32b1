"""A tuned denoiser (DreamBooth) written as other programs load it: a stock checkpoint, or a diffusers folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from ..errors import UserError
from ..files.adapter_weights import FORMAT, FORMAT_VERSION, AdapterWeights
from ..files.modelspec import modelspec
from ..files.safetensors import write_tensors
from ..files.subject import check_name
from ..models.ldm_layout import UNET, to_ldm_layout

if TYPE_CHECKING:
    from .base import Base


def write_whole_model(base: Base, weights: AdapterWeights, path: Path, overwrite: bool = False) -> None:
    """Write the base with a denoiser in its place.

    A name that ends in `.safetensors` gives a stock checkpoint in float16, whose other tensors are copied from the checkpoint that the
    base was loaded from; a name without an ending gives a diffusers folder.

    Raises:
        UserError: it exists and `overwrite` is off; a checkpoint is asked for, but the base is a folder; or the disk refuses.
    """
    if path.exists() and not overwrite:
        raise UserError(f"{path.name} exists already; choose another name or allow overwriting")
    check_name(path.stem)
    if path.suffix:
        _write_checkpoint(Path(base.source), weights, path)
    else:
        _write_folder(base.model, weights, path)


def check_whole_model(source: str, path: Path) -> None:
    """UserError, before any work, where `write_whole_model` could not write a model loaded from `source` to `path`."""
    if path.suffix and not Path(source).is_file():
        raise UserError(
            f"a model loaded from a diffusers folder is saved as a folder, found the name {path.name}; leave the ending {path.suffix} out"
        )


def _write_checkpoint(source: Path, weights: AdapterWeights, path: Path) -> None:
    check_whole_model(str(source), path)
    with safe_open(source, framework="pt") as file:
        names = [name for name in file.keys() if not name.startswith(UNET)]  # noqa: SIM118  (no mapping)
        others = {name: file.get_tensor(name) for name in names}
    denoiser = {f"{UNET}{name}": tensor.half() for name, tensor in to_ldm_layout(weights.tensors).items()}
    info = weights.info
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "info": json.dumps(asdict(info)),
        **modelspec(path.stem, f"{info.token} {info.class_noun}", info.family, ""),
    }
    write_tensors(path, {**others, **denoiser}, metadata)


def _write_folder(model: Any, weights: AdapterWeights, path: Path) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    unet = type(model.unet).from_config(model.unet.config)
    unet.load_state_dict(weights.tensors)
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1, set_alpha_to_one=False,
        prediction_type=model.schedule.prediction,
    )  # fmt: skip
    make: Any = StableDiffusionPipeline  # its annotations leave out that a part may be None
    pipeline = make(
        vae=model.coder.vae, text_encoder=model.text_encoder, tokenizer=model.tokenizer.tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            pipeline.save_pretrained(partial / "model", safe_serialization=True)
            if path.exists():
                shutil.rmtree(path)
            (partial / "model").rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another place or free some space") from error
