"""Runs the protocol: trains subjects, generates images and computes metrics. A killed run resumes where it stopped.

OUT/settings.json records the settings, OUT/<subject>/ contains a subject's file and images, OUT/result.json the metrics. On a CPU a
resumed run gives the same files as an uninterrupted one; on a GPU the last bits may differ between runs.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ..encoders.clip_space import ClipSpace
from ..errors import UserError
from ..methods.prior_images import Prior
from ..models.diffusers_adapter import DiffusersModel
from ..models.fingerprint import weights_fingerprint
from ..models.progress import Step
from .drawing import DrawingConfig, generate_images, missing_prompts
from .encoders import Encoders
from .making import Maker, MakingConfig, NetworkKit
from .photos import write_text
from .protocol import LIST_FILE, PhotoSubject
from .scores import VARIANTS, score_subject, summary

FORMAT = "hybridbooth.evaluation"
PACKAGES = ("torchvision", "diffusers", "transformers", "timm", "lpips")
WARNING = "the encoders have random weights: the metrics are meaningless"
FULL = {"subjects": 30, "prompts": 25, "images": 4}

OnEvent = Callable[[str, int, int], None]
"""Called with (activity, units done, units in total); may raise to stop."""


def settings_of(
    model: DiffusersModel, dataset: Path, making: MakingConfig, drawing: DrawingConfig, kit: NetworkKit | None = None
) -> dict[str, Any]:
    """All settings that affect an image, as stored in OUT/settings.json.

    Excludes the number of subjects and prompts: a run on a few can be extended to all.
    """
    made = asdict(making) | {"steps": making.trained_steps, "artefacts": making.artefacts is not None}
    return {
        "model": model.name,
        "model_fingerprint": weights_fingerprint(model.unet, model.text_encoder),
        "prompt_lists": hashlib.sha256((dataset / LIST_FILE).read_bytes()).hexdigest()[:16],
        "probe": weights_fingerprint(kit.network) if kit else None,
        "making": made,
        "drawing": asdict(drawing),
    }


def check_settings(settings: dict[str, Any], out: Path) -> None:
    """Writes the settings to a new folder; UserError if the folder has images made with other settings."""
    path = out / "settings.json"
    if not path.exists():
        write_text(json.dumps(settings, indent=2) + "\n", path)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged, so the settings of its images are unknown; choose another --out") from error
    ours, theirs = _flat(settings), _flat(before)
    differing = [f"{key} was {theirs.get(key)!r}, now {ours.get(key)!r}" for key in ours | theirs if ours.get(key) != theirs.get(key)]
    if differing:
        raise UserError(f"{out} contains a run with other settings ({'; '.join(differing[:3])}); use the same settings or another --out")


def _flat(settings: Any) -> dict[str, Any]:
    """Flattens nested dictionaries, joining their keys."""
    if not isinstance(settings, dict):
        return {"settings": settings}
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= {f"{key} {inner}": v for inner, v in _flat(value).items()} if isinstance(value, dict) else {key: value}
    return flat


def generate_all(
    model: DiffusersModel,
    subjects: Sequence[PhotoSubject],
    making: MakingConfig,
    drawing: DrawingConfig,
    out: Path,
    kit: NetworkKit | None = None,
    on_event: OnEvent | None = None,
    clip_space: ClipSpace | None = None,
) -> None:
    """Trains every subject that lacks images, and generates them."""
    prior = Prior(model, making.seed, drawing.steps, drawing.guidance)
    maker = Maker(model, making, prior, kit, clip_space)
    for subject in subjects:
        missing = missing_prompts(out, subject, drawing.images)
        if not missing:
            continue
        (out / subject.name).mkdir(exist_ok=True)

        def on_step(step: Step, name: str = subject.name) -> None:
            if on_event:
                on_event(f"{name}: training, loss {step.loss:.4f}", step.done, step.steps)

        with maker.applied(subject, out / subject.name, on_step) as pieces:
            for count, index in enumerate(missing):
                generate_images(model, subject, index, pieces, drawing, out)
                if on_event:
                    on_event(f"{subject.name}: generating", count + 1, len(missing))


def evaluate(
    model: DiffusersModel,
    dataset: Path,
    subjects: Sequence[PhotoSubject],
    making: MakingConfig,
    drawing: DrawingConfig,
    encoders: Encoders,
    out: Path,
    kit: NetworkKit | None = None,
    command: str = "",
    on_event: OnEvent | None = None,
    clip_space: ClipSpace | None = None,
) -> dict[str, Any]:
    """Runs or resumes the protocol; returns the result and writes it to OUT/result.json.

    Args:
        dataset: the folder that `subjects` were read from.
        kit, clip_space: needed by the methods that read by a trained network, or by CLIP.
        command: the command line, stored in the result.
    Raises:
        UserError: OUT contains a run with other settings, or a method, an image or a file fails.
    """
    settings = settings_of(model, dataset, making, drawing, kit)
    check_settings(settings, out)
    generate_all(model, subjects, making, drawing, out, kit, on_event, clip_space)
    encoders.to(model.device)
    rows = {}
    for count, subject in enumerate(subjects):
        rows[subject.name] = score_subject(subject, out, drawing.images, making.inputs, encoders)
        if on_event:
            on_event("measuring", count + 1, len(subjects))
    prompts = max(len(subject.prompts) for subject in subjects)
    size = {"subjects": len(subjects), "prompts": prompts, "images": drawing.images}
    result = {
        "format": FORMAT,
        **({"warning": WARNING} if encoders.untrained else {}),
        "command": command,
        "full_protocol": size == FULL,
        "size": size,
        "variants": VARIANTS,
        "settings": settings,
        "means": summary(rows),
        "subjects": {
            s.name: {"class": s.noun, "live": s.live, "photos": len(s.photos), "prompts": len(s.prompts), **rows[s.name]} for s in subjects
        },
        "encoders": encoders.fingerprints(),
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__), **{name: _version(name) for name in PACKAGES}},
    }
    write_text(json.dumps(result, indent=2) + "\n", out / "result.json")
    return result


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
