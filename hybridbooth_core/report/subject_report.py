"""The Subject Report: a subject's references, its cross-attention maps and its refinement in one image.

Axes: n token embeddings, H W height and width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..encoders.features import Reference, square_crops, target_squares
from ..files.subject import Subject
from ..models.adapter import AttentionCapture, DiffusionModel
from ..models.attention import token_maps
from ..models.seeds import new_generator
from ..refine.task import TEMPLATES
from .drawing import FAINT, Page, fitted, mosaic, outlined, with_heatmap

TIMES = (0.3, 0.5, 0.7)  # fractions of the noise schedule: medium noise levels, which determine the layout
WIDTH, EDGE, GAP, CAPTION = 1200, 29, 18, 26
LARGE, MAX_SIDE, PER_ROW = (WIDTH - 2 * EDGE - 3 * GAP) // 4, 214, 10
FIRST_ROW = 98


@torch.no_grad()
def token_attention(model: DiffusionModel, image: Tensor, embeddings: Tensor, times: Sequence[float] = TIMES, seed: int = 0) -> Tensor:
    """Cross-attention maps [n, H, H] of token embeddings [n, d] over a square image [H, H, 3].

    Averaged over layers, heads and times, with mean 1. `times` are fractions of the noise schedule. Equal seeds use equal noise.
    """
    latents = model.encode_image(image[None])
    encoded = model.encode_prompts([[*TEMPLATES[0], embeddings.to(model.device)]])
    total = torch.zeros(len(embeddings), *image.shape[:2])
    for number, time in enumerate(times):
        t = torch.tensor([int(time * len(model.schedule))], device=latents.device)
        noise = torch.randn(latents.shape, generator=new_generator(seed + number)).to(latents)
        capture = AttentionCapture(encoded.columns)
        model.predict_noise(model.schedule.add_noise(latents, noise, t), t, encoded.context, capture)
        total += token_maps(capture.maps, image.shape[0])[0]
    return total / total.mean()


def subject_report(model: DiffusionModel, ref: Reference, subject: Subject) -> Tensor:
    """One image [H, 1200, 3] in 0..1: references, encoder inputs, cross-attention maps, validation losses and metadata.

    Contains no run times or memory figures, so equal subjects give equal reports.

    Args:
        ref: the subject's images. Shows up to nine of them, and the attention maps on the first.
    """
    square = target_squares(Reference(ref.images[:1], None if ref.masks is None else ref.masks[:1]), model.image_size)
    maps = token_attention(model, square.images[0], subject.embeddings)
    factors = [] if square.masks is None else [_factor(attention, square.masks[0]) for attention in (maps.mean(0), *maps)]
    n = len(subject.embeddings)
    per_row = min(n, PER_ROW)
    side = min(MAX_SIDE, (WIDTH - 2 * EDGE - (per_row - 1) * GAP) // per_row)
    rows = math.ceil(n / per_row)
    second_row = FIRST_ROW + LARGE + GAP + CAPTION
    page = Page(WIDTH, second_row + rows * (side + CAPTION) + GAP + 20)
    page.text(WIDTH / 2, 36, _title(subject, len(ref.images)), 22, "mm", width=WIDTH - 2 * EDGE)
    for number, (caption, panel) in enumerate(_panels(ref, square, maps, factors)):
        page.show(panel, EDGE + number * (LARGE + GAP), FIRST_ROW, LARGE, LARGE, caption)
    info = subject.info
    if info.validation:
        x = EDGE + 3 * (LARGE + GAP)
        page.curve(info.validation, info.best_step, x, FIRST_ROW, LARGE, LARGE, "validation loss by step, best circled")
    for number, attention in enumerate(maps):
        factor = f": {factors[number + 1]:.1f}x the background" if factors and side > 180 else ""
        in_row = min(per_row, n - number // per_row * per_row)
        x = (WIDTH - in_row * side - (in_row - 1) * GAP) // 2 + number % per_row * (side + GAP)
        y = second_row + number // per_row * (side + CAPTION)
        page.show(with_heatmap(fitted(square.images[0], side, side), attention), x, y, side, side, f"word {number + 1}{factor}")
    page.text(WIDTH / 2, page.image.height - 20, " · ".join(_facts(subject)), 13, "mm", FAINT, WIDTH - 2 * EDGE)
    return page.pixels()


def _panels(ref: Reference, square: Reference, maps: Tensor, factors: list[float]) -> list[tuple[str, Tensor]]:
    """(caption, image) of the three large images."""
    references = [fitted(image, LARGE, LARGE) for image in ref.images]
    if ref.masks is not None:
        references = [outlined(image, mask) for image, mask in zip(references, ref.masks, strict=True)]
    count = "reference image" if len(references) == 1 else f"{len(references)} reference images"
    factor = f": {factors[0]:.1f}x the background" if factors else ""
    return [
        (count + (" and mask" if ref.masks is not None else ""), mosaic(references, LARGE, LARGE)),
        ("encoder input", mosaic(list(square_crops(ref.images, ref.masks, LARGE)), LARGE, LARGE)),
        (f"attention of its words{factor}", with_heatmap(fitted(square.images[0], LARGE, LARGE), maps.mean(0))),
    ]


def _factor(attention: Tensor, mask: Tensor) -> float:
    """The ratio of the mean attention [H, W] on the mask [H, W] to that off it."""
    on, off = (attention * mask).sum() / mask.sum(), (attention * (1 - mask)).sum() / (1 - mask).sum()
    return float(on / off.clamp_min(1e-12))


def _title(subject: Subject, images: int) -> str:
    count = {1: "one image", 2: "two images", 3: "three images"}.get(images, f"{images} images")
    embeddings = {1: "one word", 5: "five words"}.get(len(subject.embeddings), f"{len(subject.embeddings)} words")
    return f"{subject.info.class_noun or 'a subject'}: {count}, {embeddings}"


def _facts(subject: Subject) -> list[str]:
    info = subject.info
    if not info.steps:
        return ["no steps: initial words"]
    best = "initial words kept" if info.best_step == 0 else f"step {info.best_step} kept"
    return [
        f"{info.steps} steps ({info.method}, step size {info.step_size:g})",
        best,
        f"the words changed by {100 * info.relative_change:.3g} %",
    ]
