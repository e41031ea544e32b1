"""Stable Diffusion 1.5: a diffusers folder, a stock checkpoint, or a hub repository that is in the cache. Nothing is fetched."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .base import Base, SamplingDefaults

if TYPE_CHECKING:
    import torch

    from ..data.vocabulary import Vocabulary
    from ..encoders.clip_space import ClipSpace
    from ..encoders.features import FeatureEncoder
    from ..files.adapter_weights import AdapterWeights
    from ..files.subject import Subject
    from ..models.diffusers_adapter import DiffusersModel
    from ..probe.learner import Learner, Reads
    from ..probe.reading import Reading
    from ..training.callbacks import Callbacks
    from ..training.config import TrainConfig
    from ..training.context import TrainingContext
    from ..training.presets import Presets

PIPELINE = "StableDiffusionPipeline"
FAMILY = "stable-diffusion-v1"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, eq=False)
class StableDiffusion15(Base):
    """512 x 512 pixels, 768 numbers a token; nobody has a trained probe for it yet."""

    family = FAMILY
    title = "Stable Diffusion 1.5"
    width = 768
    sampling = SamplingDefaults(30, 7.5, "dpm++_2m")
    class_images = SamplingDefaults(50, 7.5)  # as diffusers' training scripts draw them
    scenes = (
        "a photo of <{name}> in the snow",
        "a photo of <{name}> on the beach",
        "a photo of <{name}> in a city at night",
        "an oil painting of <{name}>",
    )
    dtypes = ("float32", "float16", "bfloat16")
    batch = 1
    own_probe = "sd15-consumer"
    hub_model = "stable-diffusion-v1-5/stable-diffusion-v1-5"

    @classmethod
    def recognises(cls, source: str) -> bool:
        return Path(source).exists() or HUB_ID.fullmatch(source) is not None

    @classmethod
    def load(cls, source: str, device: torch.device, dtype: torch.dtype, comfyui: Path | None = None) -> StableDiffusion15:
        path = find_source(source, comfyui)
        return cls(load_model(path, device, dtype, comfyui), str(path))

    def default_probe(self) -> None:
        return None

    @classmethod
    def vocabulary(cls) -> Vocabulary:
        from .sd15_words import vocabulary

        return vocabulary()

    @classmethod
    def new_probe_fields(cls, dino: str) -> dict[str, Any]:
        from ..encoders.catalogue import CATALOGUE, CLIP_L
        from ..encoders.published import DINO_SIZES

        entry = CATALOGUE[DINO_SIZES[dino]]
        readers = {"clip": CLIP_L.id, "clip_width": CLIP_L.width, "dino": entry.id, "dino_width": entry.width}
        return {"regressor": "resampler", **readers}

    @classmethod
    def reads_with(cls, config: Reads) -> bool:
        return True

    @classmethod
    def encoders(
        cls,
        config: Reads,
        folders: Sequence[Path] = (),
        clip_vision: FeatureEncoder | None = None,
        device: torch.device | str = "cpu",
    ) -> tuple[FeatureEncoder, FeatureEncoder]:
        from ..encoders import load_encoders

        return load_encoders(config, folders, clip_vision, device)

    @classmethod
    def presets(cls) -> Presets:
        from ..training.presets import SD15_PRESETS

        return SD15_PRESETS

    @classmethod
    def prepare_training(
        cls, config: TrainConfig, device: torch.device, model: DiffusersModel | None = None
    ) -> tuple[TrainingContext, Learner, Callbacks]:
        from ..training.setup import prepare_training
        from .autoencoder import load_autoencoder

        path = find_source(config.model)
        return prepare_training(
            config, device, lambda: model or load_model(path, device), lambda: load_autoencoder(path, "cpu").fingerprint
        )

    def clip_space(self, folders: Sequence[Path] = ()) -> ClipSpace | None:
        from ..encoders.catalogue import CLIP_L
        from ..encoders.clip_space import load_clip_space
        from ..encoders.files import find_encoder

        return load_clip_space(folders) if find_encoder(CLIP_L, folders, CLIP_L.whole) else None

    def check_output(self, path: Path, makes: str) -> None:
        if makes != "full":
            super().check_output(path, makes)
            return
        from .whole_model import check_whole_model

        check_whole_model(self.source, path)

    def write(self, artefact: Subject | AdapterWeights | Reading, path: Path, overwrite: bool = False) -> None:
        from ..files.adapter_weights import AdapterWeights

        if isinstance(artefact, AdapterWeights) and artefact.info.form == "full":
            from .whole_model import write_whole_model

            write_whole_model(self, artefact, path, overwrite)
        else:
            artefact.save(path, overwrite)


def find_source(source: str, comfyui: Path | None = None) -> Path:
    """The folder or file that `source` names: a path, a checkpoint of a ComfyUI folder, or a hub repository in the cache.

    Raises:
        UserError: there is no such thing; it says what was looked for.
    """
    path = Path(source)
    if path.exists():
        return path
    if comfyui is not None:
        from .comfyui import find_model, list_models

        found = find_model(comfyui, "checkpoints", source)
        if found is not None:
            return found
        there = ", ".join(list_models(comfyui, "checkpoints")[:5]) or "none"
        raise UserError(f"there is no checkpoint {source!r} in {comfyui}; it has: {there}")
    if HUB_ID.fullmatch(source):
        cached = _cached(source)
        if cached is not None:
            return cached
        raise UserError(
            f"{source} is neither a path nor in the hub's cache, and nothing is fetched here; run: hf download {source}, or give the "
            "path of a checkpoint"
        )
    raise UserError(f"expected --model as miniature, a diffusers folder or a .safetensors checkpoint, found no {source}; check the path")


def _cached(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except (OSError, ValueError):
        return None


def load_model(
    path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, comfyui: Path | None = None
) -> DiffusersModel:
    """The model behind the adapter, on a device, frozen, with the name of its folder or file.

    Args:
        dtype: of the denoiser; None is float32. The text encoder and the autoencoder are float32 always.
        comfyui: a ComfyUI folder with CLIP's vocabulary, for a checkpoint where the package open_clip_torch is missing.
    Raises:
        UserError: there is no such folder or file, it is of another family, or it holds no safetensors.
    """
    import torch

    dtype = dtype or torch.float32
    if path.is_dir():
        return _folder(path, torch.device(device), dtype)
    if path.suffix.lower() == ".safetensors" and path.is_file():
        return _checkpoint(path, torch.device(device), dtype, comfyui)
    if path.suffix.lower() in (".ckpt", ".pt", ".bin") and path.is_file():
        raise UserError(f"{path.name} is a pickle, which can run code when it is read; convert it to .safetensors first")
    raise UserError(f"expected a diffusers folder or a .safetensors checkpoint of Stable Diffusion 1.5, found {path}; check the path")


def _checkpoint(path: Path, device: torch.device, dtype: torch.dtype, comfyui: Path | None) -> DiffusersModel:
    from ..models.from_pipeline import model_of_parts
    from .checkpoint import load_checkpoint
    from .clip_vocabulary import clip_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        tokenizer = clip_tokenizer(Path(folder), comfyui)  # first, since the networks take a while
    parts = load_checkpoint(path, dtype)
    for part in (parts.unet, parts.vae, parts.text_encoder):
        part.to(device)
    return model_of_parts(path.stem, parts.unet, parts.text_encoder, tokenizer, parts.vae, parts.schedule, FAMILY)


def _folder(path: Path, device: torch.device, dtype: torch.dtype) -> DiffusersModel:
    import torch
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    from ..models.from_pipeline import model_of

    check_folder(path)
    settings = {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None, "local_files_only": True}
    try:
        pipeline: Any = StableDiffusionPipeline.from_pretrained(path, use_safetensors=True, **settings)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"the model {path} cannot be loaded ({_reason(error)}); it must hold its weights as .safetensors") from error
    for part, precision in ((pipeline.unet, dtype), (pipeline.vae, torch.float32), (pipeline.text_encoder, torch.float32)):
        torch.nn.Module.to(part, device, precision)  # diffusers' own `to` warns at every cast
    return model_of(pipeline, path.resolve().name, FAMILY)


def check_folder(path: Path) -> None:
    """UserError unless a folder is a plain Stable Diffusion pipeline of diffusers."""
    try:
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8-sig"))
        kind = index.get("_class_name") if isinstance(index, dict) else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no diffusers folder (it has no readable model_index.json); save the pipeline there again") from error
    if kind != PIPELINE:
        raise UserError(f"expected a {PIPELINE}, found {str(kind)[:80]} in {path}; use a plain Stable Diffusion 1.5 model")


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
