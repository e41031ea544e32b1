"""The methods of the family on a wired model, and what they make in forms that stock nodes load."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ...hybridbooth_core.bases import BASES
from ...hybridbooth_core.encoders.features import Reference
from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.files.adapter_weights import WORD, AdapterWeights
from ...hybridbooth_core.files.stock_adapter import save_stock
from ...hybridbooth_core.files.subject import Subject, check_name
from ...hybridbooth_core.methods.polished import NAME as POLISHED
from ...hybridbooth_core.methods.polished import polish
from ...hybridbooth_core.methods.prior_images import Prior
from ...hybridbooth_core.methods.registry import find_method, run_method
from ...hybridbooth_core.models.adapter import class_embedding
from ...hybridbooth_core.models.memory import is_out_of_memory
from .folders import free_name, new_probe_path, new_subject_path
from .model import HostModel, host_model
from .notices import show_text
from .references import node_report
from .saving import save_subject
from .session import preview_of, progress
from .subjects import with_pieces, with_subject

__all__ = ["METHODS", "POLISHED", "Training", "train_subject"]

METHODS = ("textual_inversion_5", "textual_inversion", "dreambooth_lora", "lidb", "custom_diffusion")
LORAS = "loras"


@dataclass(frozen=True, eq=False)
class Training:
    """What to train: `steps`, `learning_rate` and `rank` 0 take the method's own for the model's family."""

    method: str
    class_noun: str
    name: str
    steps: int = 0
    learning_rate: float = 0.0
    rank: int = 0
    prior_images: int = 0
    seed: int = 0
    preview: bool = True
    caption: str = ""


@dataclass(frozen=True, eq=False)
class TrainedSubject:
    """MODEL and CLIP that know the subject, the subject (or what blocks nodes that need one), a report as text and image, and the file."""

    model: Any
    clip: Any
    subject: Any
    report: str
    image: Tensor
    file: str


def train_subject(model: Any, clip: Any, vae: Any, ref: Reference, training: Training, subject: Subject | None = None) -> TrainedSubject:
    """Trains, saves under a free name, and applies the result by stock means.

    Args:
        subject: what the method "polished" starts from.
    Raises:
        UserError: an input that does not fit, before any work; or what the method raises.
    """
    name = check_name(training.name)
    with host_model(model, clip, vae) as host:
        class_embedding(host, training.class_noun)  # refuses an empty or unknown one before anything is drawn
        if training.method == "custom_diffusion" and model.patches:
            raise UserError(
                "expected a MODEL without LoRAs for Custom Diffusion, which tunes its weights; connect the checkpoint's own MODEL"
            )
        options = _options(host, training)
        draw = preview_of(host)
        on_step = progress(draw if training.preview else None)
        with _memory_as_sentence(training.method):
            if subject is not None:
                config = find_method(training.method).configuration(host.family, seed=training.seed, **options)
                made = polish(host, ref, subject, config, on_step)
            else:
                shared = {"seed": training.seed, "prior": _prior(host, training), "on_step": on_step}
                made = run_method(training.method, host, ref, training.class_noun, **shared, **options)
        artefact = made.artefact
        if isinstance(artefact, Subject):
            saved = save_subject(artefact, name)
            report, image = node_report(host, ref, artefact, made.report, saved.said)
            return TrainedSubject(model, with_subject(clip, artefact, name, 1.0), artefact, report, image, saved.path.name)
        assert isinstance(artefact, AdapterWeights)
        if artefact.info.form == "lidb":
            path = new_probe_path(free_name(name, lambda other: not new_probe_path(other).exists()))
            artefact.save(path)
            tensors, loader = artefact.as_lora(host).tensors, "Load Weights"
        else:
            path = _free_lora(name, beside=WORD in artefact.tensors)
            tensors, loader = save_stock(artefact, dict(host.denoiser.named_parameters()), path), "Load LoRA"
        image = draw(artefact)[None]
    tuned, clip = comfy.sd.load_lora_for_models(model, clip, tensors, 1.0, 1.0)
    said = f"{made.report}\n{path.parent.name}/{path.name}: load it with {loader}"
    noun = artefact.info.class_noun
    if subject is not None:
        said += f", and write embedding:{save_subject(artefact.subject(), path.stem).path.stem} in prompts"
        return TrainedSubject(tuned, with_subject(clip, artefact.subject(), name, 1.0), artefact.subject(), said, image, path.name)
    if WORD not in artefact.tensors:
        said += f', and write "{artefact.info.token} {noun}" in prompts'
        known = with_pieces(clip, name, f"{artefact.info.token} {noun}")
    else:
        said += f", and write embedding:{save_subject(artefact.subject(), path.stem).path.stem} {noun} in prompts"
        known = with_pieces(clip, name, (artefact.tensors[WORD], noun))
    blocked = ExecutionBlocker(f"{training.method} tunes weights and makes no subject; use the outputs MODEL and CLIP")
    return TrainedSubject(tuned, known, blocked, said, image, path.name)


def _options(host: HostModel, training: Training) -> dict[str, Any]:
    """What differs from the method's own defaults."""
    has = find_method(training.method).fields
    given = {"steps": training.steps, "learning_rate": training.learning_rate, "rank": training.rank, "caption": training.caption}
    options = {name: value for name, value in given.items() if value and name in has}
    if "prior_images" in has:
        options |= {"prior_images": training.prior_images} if training.prior_images else {"prior_weight": 0.0}
    return options


def _prior(host: HostModel, training: Training) -> Prior | None:
    """The class images, drawn now, so that the user sees what takes so long."""
    if not training.prior_images or "prior_images" not in find_method(training.method).fields:
        return None
    how = next((base.class_images for base in BASES if base.family == host.family), BASES[-1].class_images)
    prior = Prior(host, training.seed, how.steps, how.guidance)
    for number in range(1, training.prior_images + 1):  # one by one, which needs the least memory
        show_text(f"drawing {number} of {training.prior_images} images of a {training.class_noun}")
        prior.latents(training.class_noun, number)
    return prior


@contextmanager
def _memory_as_sentence(method: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"not enough memory to train by {method}, which computes without activation checkpointing; close other programs that use the "
            "GPU, or use Personalize Subject, which needs less"
        ) from None


def _free_lora(name: str, beside: bool) -> Path:
    """The first of name, name-2 ... that does not exist in the folder of LoRAs, nor in that of embeddings if one goes `beside` it."""
    folder = Path(folder_paths.get_folder_paths(LORAS)[0])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be created ({error}); create it, or use another models folder") from error

    def is_free(other: str) -> bool:
        taken = [folder / f"{other}.safetensors", *([new_subject_path(other)] if beside else [])]
        return not any(path.exists() or path.is_symlink() for path in taken)

    return folder / f"{free_name(name, is_free)}.safetensors"
