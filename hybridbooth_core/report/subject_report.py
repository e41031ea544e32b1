"""The Subject Report: one image that tells how a subject came about and where its words look.

Axes: n words, H W rows and columns.
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
from ..refine.task import TEMPLATES
from .drawing import FAINT, Page, fitted, heated, mosaic, outlined

TIMES = (0.3, 0.5, 0.7)  # shares of the schedule, mid noise: where the layout is decided
WIDTH, EDGE, GAP, CAPTION = 1200, 29, 18, 26
LARGE, LARGEST_WORD, PER_ROW = (WIDTH - 2 * EDGE - 3 * GAP) // 4, 214, 10
FIRST_ROW = 98


@torch.no_grad()
def token_attention(model: DiffusionModel, image: Tensor, embeddings: Tensor, times: Sequence[float] = TIMES, seed: int = 0) -> Tensor:
    """Where in a square image [H, H, 3] each of the words [n, d] looks: [n, H, H] with mean 1, over layers, heads and times.

    `times` are shares of the noise schedule; the noise is the same for the same seed.
    """
    latents = model.encode_image(image[None])
    encoded = model.encode_prompts([[*TEMPLATES[0], embeddings.to(model.device)]])
    total = torch.zeros(len(embeddings), *image.shape[:2])
    for number, share in enumerate(times):
        t = torch.tensor([int(share * len(model.schedule))], device=latents.device)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed + number)).to(latents)
        capture = AttentionCapture(encoded.columns)
        model.predict_noise(model.schedule.add_noise(latents, noise, t), t, encoded.context, capture)
        total += token_maps(capture.maps, image.shape[0])[0]
    return total / total.mean()


def subject_report(model: DiffusionModel, ref: Reference, subject: Subject) -> Tensor:
    """One image [H, 1200, 3] in 0..1 about a subject: its reference, what the encoders saw, where its words look, and how it was refined.

    It says nothing that a second run would find otherwise, such as seconds or memory: equal subjects have equal reports.

    Args:
        ref: the images it was made of. All are shown (up to nine); the words' looks are shown on the first.
    """
    square = target_squares(Reference(ref.images[:1], None if ref.masks is None else ref.masks[:1]), model.image_size)
    looks = token_attention(model, square.images[0], subject.embeddings)
    factors = [] if square.masks is None else [_factor(look, square.masks[0]) for look in (looks.mean(0), *looks)]
    n = len(subject.embeddings)
    per_row = min(n, PER_ROW)
    side = min(LARGEST_WORD, (WIDTH - 2 * EDGE - (per_row - 1) * GAP) // per_row)
    rows = math.ceil(n / per_row)
    second_row = FIRST_ROW + LARGE + GAP + CAPTION
    page = Page(WIDTH, second_row + rows * (side + CAPTION) + GAP + 20)
    page.text(WIDTH / 2, 36, _title(subject, len(ref.images)), 22, "mm", width=WIDTH - 2 * EDGE)
    for number, (caption, panel) in enumerate(_panels(ref, square, looks, factors)):
        page.show(panel, EDGE + number * (LARGE + GAP), FIRST_ROW, LARGE, LARGE, caption)
    info = subject.info
    if info.validation:
        x = EDGE + 3 * (LARGE + GAP)
        page.curve(info.validation, info.best_step, x, FIRST_ROW, LARGE, LARGE, "validation loss by step, the kept one ringed")
    for number, look in enumerate(looks):
        factor = f": {factors[number + 1]:.1f}x the background" if factors and side > 180 else ""
        in_row = min(per_row, n - number // per_row * per_row)
        x = (WIDTH - in_row * side - (in_row - 1) * GAP) // 2 + number % per_row * (side + GAP)
        y = second_row + number // per_row * (side + CAPTION)
        page.show(heated(fitted(square.images[0], side, side), look), x, y, side, side, f"word {number + 1}{factor}")
    page.text(WIDTH / 2, page.image.height - 20, " · ".join(_facts(subject)), 13, "mm", FAINT, WIDTH - 2 * EDGE)
    return page.pixels()


def _panels(ref: Reference, square: Reference, looks: Tensor, factors: list[float]) -> list[tuple[str, Tensor]]:
    """(caption, image) of the three large images."""
    given = [fitted(image, LARGE, LARGE) for image in ref.images]
    if ref.masks is not None:
        given = [outlined(image, mask) for image, mask in zip(given, ref.masks, strict=True)]
    count = "the image given" if len(given) == 1 else f"the {len(given)} images given"
    factor = f": {factors[0]:.1f}x the background" if factors else ""
    return [
        (count + (", masked" if ref.masks is not None else ""), mosaic(given, LARGE, LARGE)),
        ("what the encoders saw", mosaic(list(square_crops(ref.images, ref.masks, LARGE)), LARGE, LARGE)),
        (f"where its words look{factor}", heated(fitted(square.images[0], LARGE, LARGE), looks.mean(0))),
    ]


def _factor(look: Tensor, mask: Tensor) -> float:
    """How many times as strongly a map [H, W] looks at the mask [H, W] as off it, each by its area."""
    return float((look * mask).sum() / mask.sum() / ((look * (1 - mask)).sum() / (1 - mask).sum()).clamp_min(1e-12))


def _title(subject: Subject, images: int) -> str:
    count = {1: "one image", 2: "two images", 3: "three images"}.get(images, f"{images} images")
    embeddings = {1: "one word", 5: "five words"}.get(len(subject.embeddings), f"{len(subject.embeddings)} words")
    return f"{subject.info.class_noun or 'a subject'}: {count}, {embeddings}"


def _facts(subject: Subject) -> list[str]:
    info = subject.info
    if not info.steps:
        return ["no steps: the first guess"]
    kept = "the start was kept" if info.best_step == 0 else f"step {info.best_step} kept"
    lines = [f"{info.steps} steps ({info.method}, effective step {info.step_size:g})", kept]
    return [*lines, f"the words moved by {100 * info.relative_change:.3g} % of their length"]
