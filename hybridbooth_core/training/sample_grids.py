"""Sample grids: reference, predicted and (of a probe) refined subjects, and the subjects in new contexts.

All grids of a training show the same subjects with the same noise, so that only the learner differs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ..data.examples import Example
from ..data.reader import Row, ShardReader
from ..encoders.features import Reference, extract_features, reference
from ..errors import UserError
from ..files.images import save_image
from ..models.adapter import Prompt
from ..models.memory import empty_cache, is_out_of_memory
from ..models.sampling import generate, initial_noise
from ..probe.learner import Features, Learner
from ..probe.probe import Probe
from ..refine.captions import SUBJECT
from ..refine.refine import RefineConfig, refine
from ..report.drawing import FAINT, Page, fitted, outlined
from .callbacks import GridContent, GridPrompts, GridSubject
from .config import TrainConfig
from .context import TrainingContext
from .sources import NOUN

REFINE = RefineConfig()
CANDIDATES = 256  # examples that are searched for different subjects with masks
EDGE, GAP, WIDE_GAP, TOP, FOOT, LEFT = 28, 10, 34, 132, 56, 128
SMALL, LARGE = 180, 256  # cell side for images up to 128 pixels, and for larger ones
TITLES = {"hypernetwork": "weights by a hypernetwork", "instantbooth": "InstantBooth"}
BATCH_PIXELS = 512  # sum of the sides of images that are generated together: one of 512, since the training is in memory too

log = logging.getLogger("hybridbooth")


PHOTOS = GridPrompts("a photo of", ("in the jungle", "on the beach", "in a city at night"), 7.5)


def shard_content(config: TrainConfig, context: TrainingContext, count: int) -> GridContent:
    """`count` subjects from the validation shards, or from the training shards if there are no others.

    Prefers images with a mask, and different identities.

    Raises:
        UserError: a shard is missing, unreadable, or was changed.
    """
    reader = ShardReader(config.data.validation or config.data.shards or Path(), interleave=1)
    rows = islice(reader.rows(), min(CANDIDATES, reader.epoch_length))
    subjects = [_subject(row, context) for row in _select(rows, count)]
    return GridContent(subjects, PHOTOS, held_out=config.data.validation is not None)


@torch.no_grad()
def grid_subject(context: TrainingContext, ref: Reference, noun: str) -> GridSubject:
    """A subject with features computed by the context's encoders."""
    assert context.clip is not None and context.dino is not None
    return GridSubject(ref, extract_features(context.model, context.clip, context.dino, ref), noun)


def _select(rows: Iterable[Row], count: int) -> list[Row]:
    best: list[tuple[int, Row]] = []
    identities: set[str | None] = set()
    for row in rows:
        example = row.target
        repeated = example.identity is not None and example.identity in identities
        identities.add(example.identity)
        best = sorted([*best, (2 * repeated + (example.mask is None), row)], key=lambda entry: entry[0])[:count]
        if len(best) == count and best[-1][0] == 0:
            break
    return [row for _, row in best]


def _reference(example: Example) -> Reference:
    assert example.image is not None
    mask = None if example.mask is None or not 0.001 < example.mask.mean() < 0.999 else example.mask
    return reference(example.image[None], None if mask is None else mask[None])


def _subject(row: Row, context: TrainingContext) -> GridSubject:
    example, other = row.target, row.partner
    said = " ".join((other.prompt or "").split())
    paired = {} if other is example else {"other": _reference(other), "caption": said if said.count(SUBJECT) == 1 else ""}
    ref, noun = _reference(example), example.class_word or NOUN
    if context.clip is not None:
        return replace(grid_subject(context, ref, noun), **paired)
    tokens = [tensor[None].float() for tensor in (example.clip, example.dino, example.reference_latents) if tensor is not None]
    return GridSubject(ref, Features(*tokens).to(context.model.device), noun, **paired)


def grid(config: TrainConfig, context: TrainingContext, content: GridContent) -> Callable[[Learner, Path], None]:
    """A function that writes a sample grid of a learner to a PNG file.

    It changes neither the learner nor any random state. If a grid fails (out of memory, disk full), it only logs a warning.
    """

    def draw(learner: Learner, path: Path) -> None:
        devices = [context.model.device] if context.model.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices):
                rows = [_row(config, context, subject, content.prompts, learner) for subject in content.subjects]
            save_image(_page(config, context, rows, content, path, isinstance(learner, Probe)), path)
        except Exception as error:
            if not (isinstance(error, UserError) or is_out_of_memory(error)):
                raise
            log.warning("no sample grid was written: %s", str(error).splitlines()[0][:300])
            empty_cache(context.model.device)

    return draw


@dataclass(frozen=True, eq=False)
class _Row:
    """A subject and its images: predicted, refined (by a probe), and in the contexts."""

    subject: GridSubject
    images: list[Tensor]
    change: str


def _row(config: TrainConfig, context: TrainingContext, subject: GridSubject, texts: GridPrompts, learner: Learner) -> _Row:
    if not isinstance(learner, Probe):
        return _predicted_row(config, context, subject, texts, learner)
    model, probe = context.model, learner
    noun = context.noun(subject.noun)
    with torch.no_grad():
        predicted = probe(subject.features, noun)[0]
    try:
        result = refine(model, subject.ref, noun, REFINE, probe, subject.features)
        refined, change = result.embeddings, f"loss {result.validation[0]:.4f}\n{result.validation[-1]:.4f} refined"
    except UserError as error:  # the probe's embeddings are not finite
        log.warning("a subject of the sample grid cannot be refined: %s", error)
        refined, change = predicted, "not refined"
    rows = [predicted, refined, *[refined] * len(texts.contexts)]
    prompts: list[Prompt] = [[texts.before, row, *after] for row, after in zip(rows, _endings(texts), strict=True)]
    noise = _noise(config, subject, len(prompts) - 1)
    noise = torch.cat([noise[:1], noise])  # predicted and refined with the same noise
    return _Row(subject, _images(config, context, prompts, noise, texts), change)


@torch.no_grad()
def _predicted_row(config: TrainConfig, context: TrainingContext, subject: GridSubject, texts: GridPrompts, learner: Learner) -> _Row:
    model, endings = context.model, ["", *texts.contexts]
    predicted = learner(subject.features, context.noun(subject.noun)[None])[:1]
    with learner.applied(model, predicted):  # type: ignore[arg-type]
        prompts = [learner.prompts(predicted, [(texts.before, ending)], [subject.noun], model)[0] for ending in endings]
        return _Row(subject, _images(config, context, prompts, _noise(config, subject, len(prompts)), texts), "")


def _noise(config: TrainConfig, subject: GridSubject, count: int) -> Tensor:
    return initial_noise(count, tuple(subject.features.latents.shape[1:]), config.seed)


def _images(config: TrainConfig, context: TrainingContext, prompts: list[Prompt], noise: Tensor, texts: GridPrompts) -> list[Tensor]:
    batch = max(1, BATCH_PIXELS // context.model.image_size)
    parts = [
        generate(context.model, prompts[i : i + batch], noise[i : i + batch], config.log.grid_steps, texts.guidance).float().cpu()
        for i in range(0, len(prompts), batch)
    ]
    return list(torch.cat(parts))


def _endings(texts: GridPrompts) -> list[list[str]]:
    """The end of the prompt of each column: predicted, refined, and each context."""
    return [[], [], *([scene] for scene in texts.contexts)]


def _page(
    config: TrainConfig, context: TrainingContext, rows: Sequence[_Row], content: GridContent, path: Path, refined: bool = True
) -> Tensor:
    texts = content.prompts
    cell = SMALL if rows[0].subject.ref.images.shape[1] <= 128 else LARGE
    groups = {
        "input": ["reference"],
        f"\u201c{texts.before} <subject>\u201d": ["predicted", "refined"] if refined else ["predicted"],
        "refined, in new contexts" if refined else "in new contexts": [f"\u201c\u2026 {scene}\u201d" for scene in texts.contexts],
    }
    left, places = LEFT, []
    heads = []
    for name, titles in groups.items():
        heads.append((name, left, left + len(titles) * (cell + GAP) - GAP))
        places += [(title, left + number * (cell + GAP)) for number, title in enumerate(titles)]
        left = heads[-1][2] + WIDE_GAP
    page = Page(left - WIDE_GAP + EDGE, TOP + len(rows) * (cell + GAP) - GAP + FOOT)
    middle, wide = page.image.width / 2, page.image.width - 2 * EDGE
    page.text(middle, 36, _title(config, context, path), 22, "mm", width=wide)
    for name, start, end in heads:
        page.text((start + end) / 2, TOP - 54, name, 15, "mm", width=end - start)
        page.image.paste(FAINT, (start, TOP - 38, end, TOP - 37))
    for title, x in places:
        page.text(x + cell / 2, TOP - 18, title, 13, "mm", FAINT, cell)
    for number, row in enumerate(rows):
        y = TOP + number * (cell + GAP)
        page.text(LEFT - 16, y + cell / 2 - 18, row.subject.noun, 18, "rm", width=LEFT - 24)
        page.text(LEFT - 16, y + cell / 2 + 18, row.change, 12, "rm", FAINT, LEFT - 20)
        reference_image, masks = fitted(row.subject.ref.images[0], cell, cell), row.subject.ref.masks
        images = [reference_image if masks is None else outlined(reference_image, masks[0]), *row.images]
        for (_, x), image in zip(places, images, strict=True):
            page.show(image, x, y, cell, cell)
    page.text(middle, page.image.height - FOOT / 2, _foot(config, content), 12, "mm", FAINT, wide)
    return page.pixels()


def _title(config: TrainConfig, context: TrainingContext, path: Path) -> str:
    step = re.fullmatch(r"step-(\d+)", path.stem)
    after = f"after {int(step[1]):,} of {config.steps:,} steps" if step else "current state"
    what = (
        f"{config.probe.num_tokens} token embeddings by a {config.probe.regressor}" if config.learner == "probe" else TITLES[config.learner]
    )
    return f"{what} for {context.model.name}, {after}"


def _foot(config: TrainConfig, content: GridContent) -> str:
    whose = "held-out subjects" if content.held_out else "training subjects (--data.validation is not set)"
    return f"{whose}; {config.log.grid_steps} sampling steps, guidance {content.prompts.guidance:g}, the same noise in every grid"
