"""HyperDreamBooth on a wired model: predicted weights, finetuned, applied by stock means, and in files."""
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.hooks
import comfy.sd
import torch
from torch import Tensor

from ...hybridbooth_core.encoders.features import Reference, extract_features
from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.files.adapter_weights import FORMAT, AdapterWeights
from ...hybridbooth_core.files.subject import check_name
from ...hybridbooth_core.methods.hyperdreambooth import HyperDreamBoothConfig, finetune
from ...hybridbooth_core.methods.rare_tokens import rare_token
from ...hybridbooth_core.methods.registry import find_method
from ...hybridbooth_core.models.adapter import class_embedding
from ...hybridbooth_core.probe.hypernetwork import Hypernetwork
from .base_model import check_clip, check_model, embedding_width
from .folders import files_of, free_name, new_lora_path, new_probe_path
from .model import HostVae, host_model
from .session import preview_of, progress
from .subjects import with_pieces
from .trainable import attentions
from .vision import host_encoders


def predict_weights(
    network: Hypernetwork, model: Any, clip: Any, vae: Any, ref: Reference, class_noun: str, clip_vision: Any = None
) -> AdapterWeights:
    """What a hypernetwork predicts for the images of a subject, outside inference mode.

    Raises:
        UserError: it was trained for another base model, or an encoder is missing.
    """
    with host_model(model, clip, vae) as host:
        class_embedding(host, class_noun)
        network.space(host)  # refuses another model before the encoders are loaded
        features = extract_features(HostVae(vae), *host_encoders(network.config, clip_vision), ref)
        return network.predict(host, replace(features, latents=features.latents[:, :0]), class_noun.strip())


@dataclass(frozen=True)
class Finetuning:
    """Settings of `finetuned`: 0 for the learning rate takes the family's own."""

    steps: int
    rank: int
    learning_rate: float
    seed: int
    preview: bool = True
    caption: str = ""


def finetuned(
    model: Any, clip: Any, vae: Any, ref: Reference, start: AdapterWeights | None, class_noun: str, how: Finetuning
) -> tuple[AdapterWeights, str, Tensor]:
    """Rank-relaxed finetuning of predicted weights, or from nothing: the LoRA, a report, and an image [1, H, W, 3] drawn with it."""
    with host_model(model, clip, vae) as host:
        given = {"steps": how.steps, "rank": how.rank, "seed": how.seed, "caption": how.caption}
        given |= {"learning_rate": how.learning_rate} if how.learning_rate else {}
        config: HyperDreamBoothConfig = find_method("hyperdreambooth").configuration(host.family, **given)
        draw = preview_of(host)
        on_step = progress(draw if how.preview else None)
        token = "" if start is not None else rare_token(host.vocabulary)
        made = finetune(host, ref, start, class_noun, token, config, on_step)
        assert isinstance(made.artefact, AdapterWeights)
        return made.artefact, made.report, draw(made.artefact)[None]


def apply_weights(
    model: Any, clip: Any, weights: AdapterWeights, name: str, strength_model: float, strength_clip: float
) -> tuple[Any, Any, Any]:
    """MODEL and CLIP with the weights, prompts of which may use `<name>`; and the weights as hooks, for conditionings of their own.

    Raises:
        UserError: the weights are of another model, or of a form that is no LoRA.
    """
    tensors = lora_tensors(model, clip, weights)
    words = f"{weights.info.token} {weights.info.class_noun}"
    tuned, heard = comfy.sd.load_lora_for_models(model, clip, tensors, strength_model, strength_clip)
    hooks = comfy.hooks.create_hook_lora(tensors, strength_model, strength_clip)
    return tuned, with_pieces(heard, check_name(name), words), hooks


def lora_tensors(model: Any, clip: Any, weights: AdapterWeights) -> dict[str, Tensor]:
    """The tensors of a LoRA in kohya's layout."""
    check_clip(clip)
    check_model(model, embedding_width(clip))
    if weights.info.form == "lora":
        return weights.tensors
    if weights.info.form != "lidb":
        raise UserError(f"expected weights of the forms lidb or lora, found {weights.info.form}; load it as its own node says")
    layers = SimpleNamespace(
        name=type(model.model.model_config).__name__, device=torch.device("cpu"), denoiser=attentions(model.model.diffusion_model),
        text_encoder=clip.cond_stage_model.clip_l.transformer,
    )  # fmt: skip
    return weights.as_lora(layers).tensors  # type: ignore[arg-type]


def save_weights(model: Any, clip: Any, weights: AdapterWeights, name: str, as_lora: bool) -> Path:
    """Writes the numbers of Lightweight DreamBooth to models/hybridbooth or a LoRA to models/loras, under a free name.

    Raises:
        UserError: the name is invalid or the folder cannot be written; a LoRA has no such numbers.
    """
    if as_lora or weights.info.form == "lora":
        path_of = new_lora_path
        tensors = lora_tensors(model, clip, weights)
        info = replace(weights.info, form="lora", subspace=(0, 0), targets="", basis="")
        weights = AdapterWeights({key: tensor.contiguous() for key, tensor in tensors.items()}, info)
    else:
        path_of = new_probe_path
    path = path_of(free_name(check_name(name), lambda other: not path_of(other).exists()))
    weights.save(path)
    return path


def weights_files() -> list[str]:
    """Names of the files of Lightweight DreamBooth in models/hybridbooth."""
    return files_of(FORMAT)
