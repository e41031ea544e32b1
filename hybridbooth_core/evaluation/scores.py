"""Computes the protocol's metrics of one subject from its image files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .drawing import image_paths
from .encoders import Encoders
from .metrics import DIGITS, diversity, mean_cosine, mean_cosine_among, mean_matching_cosine, mean_with_interval
from .photos import open_photo
from .protocol import PhotoSubject

Scores = dict[str, float | None]

VARIANTS = {
    "vs_all": "against all photos of the subject, including the method's inputs (the published protocol)",
    "vs_input": "against the method's input photos",
    "real": "between different photos of the subject (an upper bound)",
    "clip_t": "CLIP's cosine of an image and its prompt, with the class noun in place of the subject",
    "diversity": "mean LPIPS (0.1, VGG16; the paper names no network) between images of one subject and prompt",
}


def score_subject(subject: PhotoSubject, out: Path, images: int, inputs: int | None, encoders: Encoders) -> Scores:
    """The metrics of one subject, all of whose images exist.

    Args:
        inputs: number of the method's input photos; None for all.
    Returns:
        `dino_vs_all`, `dino_vs_input`, `dino_real`; the same for `clip_i_b32` and `clip_i_l14`; `clip_t_b32`, `clip_t_l14`, `diversity`.
        `diversity` is None with one image per prompt, `..._real` with one photo.
    """
    groups = [[open_photo(path) for path in image_paths(out, subject, i, images)] for i in range(len(subject.prompts))]
    drawn, photos = [image for group in groups for image in group], [open_photo(path) for path in subject.photos]
    prompts = [prompt.text(subject.noun) for prompt in subject.prompts for _ in range(images)]
    scores: Scores = {}
    for name, encoder in {"dino": encoders.dino, **{f"clip_i_{key}": clip for key, clip in encoders.clips.items()}}.items():
        generated, real = encoder(drawn), encoder(photos)
        scores[f"{name}_vs_all"] = mean_cosine(generated, real)
        scores[f"{name}_vs_input"] = mean_cosine(generated, real[:inputs])
        scores[f"{name}_real"] = mean_cosine_among(real)
        if name.startswith("clip_i_"):
            key = name.removeprefix("clip_i_")
            scores[f"clip_t_{key}"] = mean_matching_cosine(generated, encoders.clips[key].texts(prompts))
    tensors = [[encoders.lpips.preprocess(image) for image in group] for group in groups]
    scores["diversity"] = diversity(tensors, encoders.lpips)
    return {name: None if value is None else round(value, DIGITS) for name, value in scores.items()}


def summary(rows: Mapping[str, Scores]) -> dict[str, Any]:
    """Each metric's mean over subjects with its 95 % interval (see `mean_with_interval`)."""
    names: Sequence[str] = list(next(iter(rows.values())))
    return {name: mean_with_interval([row[name] for row in rows.values()]) for name in names}
