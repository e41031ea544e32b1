"""The Subject Report: a subject's references, its cross-attention maps and its refinement in one image.

Axes: n token embeddings, H W height and width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoders.features import Reference, square_crops, target_squares
from ..encoders.masks import touches_all_round
from ..files.subject import Subject
from ..models.adapter import AttentionCapture, DiffusionModel
from ..models.attention import token_maps
from ..models.seeds import new_generator
from ..refine.captions import TEMPLATES
from ..refine.unlikeness import likeness
from .drawing import ACCENT, INK, Page, fitted, mosaic, outlined, with_heatmap, wrapped

TIMES = (0.3, 0.5, 0.7)  # fractions of the noise schedule: medium noise levels, which determine the layout
WIDTH, EDGE, GAP = 720, 20, 16  # a node shows the report at about half this width
TITLE, TEXT, SMALL = 28, 20, 17  # sizes of type
CAPTION = 34  # height of a caption
LARGE, PER_ROW = (WIDTH - 2 * EDGE - GAP) // 2, 5
FIRST_ROW = 108
INVERT = (
    "the words attend less to the mask than to the rest, and the mask covers the border all round: it seems to mark the background; turn "
    "on 'invert mask' and run again"
)


@dataclass(frozen=True, eq=False)
class SubjectReport:
    """`image` [H, 720, 3] in 0..1, and sentences for the user about what it shows."""

    image: Tensor
    notices: tuple[str, ...] = ()


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


def subject_report(model: DiffusionModel, ref: Reference, subject: Subject) -> SubjectReport:
    """A page with references, encoder inputs, cross-attention maps, validation losses and metadata.

    Contains no run times or memory figures, so equal subjects give equal reports.

    Args:
        ref: the subject's images. Shows up to nine of them, and the attention maps on the first.
    """
    square = target_squares(Reference(ref.images[:1], None if ref.masks is None else ref.masks[:1]), model.image_size)
    maps = token_attention(model, square.images[0], subject.embeddings)
    factors = [] if square.masks is None else [_factor(attention, square.masks[0]) for attention in (maps.mean(0), *maps)]
    notices = (INVERT,) if factors and ref.masks is not None and factors[0] < 1 and bool(touches_all_round(ref.masks[:1])) else ()
    n = len(subject.embeddings)
    side = (WIDTH - 2 * EDGE - (PER_ROW - 1) * GAP) // PER_ROW
    words = FIRST_ROW + 2 * (LARGE + GAP + CAPTION)
    below = words + math.ceil(n / PER_ROW) * (side + CAPTION) - CAPTION + GAP
    lines = [(text, ACCENT) for text in notices] + [(text, INK) for text in _facts(subject)]
    heights = [len(wrapped(text, SMALL, WIDTH - 2 * EDGE)) for text, _ in lines]
    page = Page(WIDTH, below + math.ceil(sum(heights) * 1.35 * SMALL) + EDGE)
    page.text(WIDTH / 2, 42, _title(subject, len(ref.images)), TITLE, "mm", width=WIDTH - 2 * EDGE)
    for number, (caption, panel) in enumerate(_panels(ref, square, maps, factors)):
        x, y = EDGE + number % 2 * (LARGE + GAP), FIRST_ROW + number // 2 * (LARGE + GAP + CAPTION)
        page.show(panel, x, y, LARGE, LARGE, caption, TEXT)
    if subject.info.validation:
        x, y = EDGE + LARGE + GAP, FIRST_ROW + LARGE + GAP + CAPTION
        stride = stride_of(subject.info.validated, len(subject.info.validation))
        page.curve(subject.info.validation, x, y, LARGE, LARGE, "validation loss, share of the start", TEXT, stride=stride)
    for number, attention in enumerate(maps):
        in_row = min(PER_ROW, n - number // PER_ROW * PER_ROW)
        x = (WIDTH - in_row * side - (in_row - 1) * GAP) // 2 + number % PER_ROW * (side + GAP)
        y = words + number // PER_ROW * (side + CAPTION)
        caption = f"word {number + 1}" + (f": {factors[number + 1]:.1f}x" if factors else "")
        page.show(with_heatmap(fitted(square.images[0], side, side), attention), x, y, side, side, caption, SMALL)
    y: float = below
    for text, colour in lines:
        y = page.paragraph(EDGE, y, text, SMALL, WIDTH - 2 * EDGE, colour)
    return SubjectReport(page.pixels(), notices)


def stride_of(validated: Sequence[int], count: int) -> float:
    """The steps between two of `count` validation losses, the last of which was measured after `validated[-1]` steps; 1 if not known."""
    return validated[-1] / (count - 1) if validated and count > 1 else 1.0


def _panels(ref: Reference, square: Reference, maps: Tensor, factors: list[float]) -> list[tuple[str, Tensor]]:
    """(caption, image) of the three large images."""
    references = [fitted(image, LARGE, LARGE) for image in ref.images]
    if ref.masks is not None:
        references = [outlined(image, mask) for image, mask in zip(references, ref.masks, strict=True)]
    count = "image" if len(references) == 1 else f"{len(references)} images"
    factor = f": {factors[0]:.1f}x the background" if factors else ""
    return [
        (count + (" and mask" + "s" * (len(references) > 1) if ref.masks is not None else ", no mask"), mosaic(references, LARGE, LARGE)),
        (f"attention{factor}", with_heatmap(fitted(square.images[0], LARGE, LARGE), maps.mean(0))),
        ("encoder input", mosaic(list(square_crops(ref.images, ref.masks, LARGE)), LARGE, LARGE)),
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
    size = f"step size {info.step_size:g}" if info.step_size else "default step size"
    facts = [f"{info.steps} steps ({info.method}, {size}); the words changed by {100 * info.relative_change:.3g} %"]
    if info.unlikeness:
        facts.append(f"the subject is {likeness(info.unlikeness)} that the probe was trained on: {info.unlikeness:.1f}x the usual gradient")
    return facts
