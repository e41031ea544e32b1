"""The images by which the template browser shows the workflows, all from the miniature world: none is claimed for another model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import ImageDraw
from torch import Tensor

from hybridbooth_core.encoders.features import Reference, extract_features, reference
from hybridbooth_core.methods.artefact import Artefact
from hybridbooth_core.methods.registry import run_method
from hybridbooth_core.miniature.bundle import Miniature, load_adapter, load_hypernetwork, load_miniature
from hybridbooth_core.miniature.evaluate import class_nouns
from hybridbooth_core.miniature.render import render
from hybridbooth_core.miniature.world import Creatures, creatures, scene, split_numbers
from hybridbooth_core.miniature.world_model import LATENT_SHAPE
from hybridbooth_core.models.adapter import Prompt
from hybridbooth_core.models.prompts import split_prompt
from hybridbooth_core.models.sampling import generate, initial_noise
from hybridbooth_core.refine.personalize import personalize
from hybridbooth_core.report.drawing import FAINT, INK, Page, fitted, outlined, with_heatmap
from hybridbooth_core.report.subject_report import token_attention

from .miniature import GUIDANCE, PROMPTS, SIZED, STEPS

WIDTH, HEIGHT, EDGE = 800, 450, 28
SCENES = (("grass", "middle", "big", "none", "photo"), ("snow", "left", "big", "none", "photo"), ("sand", "right", "big", "hat", "photo"))
LABEL = "images from the miniature world that comes with this pack"

Panel = tuple[str, Tensor | str]  # a caption, and an image or the words in an empty frame


class Studio:
    """The miniature and what is drawn with it."""

    def __init__(self):
        self.world: Miniature = load_miniature()

    def photo(self, who: Creatures, number: int = 0) -> Reference:
        return reference(*render(who, scene(*SCENES[number])))

    def words(self, who: Creatures, ref: Reference) -> Tensor:
        world = self.world
        features = extract_features(world.model, world.clip, world.dino, ref)
        return personalize(world.model, world.probe, ref, features, class_nouns(who)[0]).subject.embeddings

    def finetuned(self, who: Creatures, ref: Reference) -> Tensor:
        """Images of HyperDreamBooth's subject."""
        return self._applied(self._made("hyperdreambooth", who, ref, hypernetwork=load_hypernetwork(), caption="on grass"))

    def read(self, who: Creatures, ref: Reference) -> Tensor:
        """Images of InstantBooth's subject."""
        return self._applied(self._made("instantbooth", who, ref, adapter=load_adapter()))

    def _made(self, method: str, who: Creatures, ref: Reference, **inputs: Any) -> Artefact:
        world = self.world
        features = extract_features(world.model, world.clip, world.dino, ref)
        return run_method(method, world.model, ref, class_nouns(who)[0], features=features, **inputs).artefact

    def _applied(self, artefact: Artefact) -> Tensor:
        with artefact.applied(self.world.model) as pieces:
            return self.drawn(pieces, [text for _, text in SIZED])

    def looks(self, ref: Reference, words: Tensor) -> Tensor:
        return with_heatmap(fitted(ref.images[0], 256, 256), token_attention(self.world.model, ref.images[0], words).mean(0))

    def edges(self, ref: Reference) -> Tensor:
        """White lines on black, as the stock Canny node makes them."""
        grey = ref.images[0].mean(-1)
        steps = torch.zeros_like(grey)
        steps[1:] += (grey[1:] - grey[:-1]).abs()
        steps[:, 1:] += (grey[:, 1:] - grey[:, :-1]).abs()
        return (steps > 0.25).float()[..., None].expand(-1, -1, 3)

    def drawn(self, words: Tensor | Prompt, prompts: list[str]) -> Tensor:
        """One image [64, 64, 3] for each prompt."""
        pieces = [split_prompt(prompt, {"subject": words}) for prompt in prompts]
        noise = initial_noise(1, LATENT_SHAPE, 0).expand(len(prompts), -1, -1, -1)
        return generate(self.world.model, pieces, noise, steps=STEPS, guidance=GUIDANCE)


def _rendered(who: Creatures) -> tuple[Tensor, Tensor]:
    """The creature in all scenes: images and masks."""
    images, masks = zip(*(render(who, scene(*words)) for words in SCENES), strict=True)
    return torch.cat(images), torch.cat(masks)


def strips() -> dict[str, tuple[str, list[Panel | str]]]:
    """For each workflow its headline and, from left to right, its panels and the signs between them."""
    studio = Studio()
    who, other = creatures(split_numbers("test", 1, 4)), creatures(split_numbers("test", 1, 9))
    ref = studio.photo(who)
    several = reference(*_rendered(who))
    words, more = studio.words(who, ref), studio.words(who, several)
    made = studio.drawn(words, [text for _, text in PROMPTS[:3]])
    photo: Panel = ("your photo", ref.images[0])
    assert ref.masks is not None
    masked = outlined(fitted(ref.images[0], 256, 256), ref.masks[0])
    looks: Panel = ("five words", studio.looks(ref, words))
    shown: Panel = ("your image", "<subject>\non a beach")
    return {
        "1_quickstart": (
            "Start here: no downloads, seconds on a CPU",
            [("one image", ref.images[0]), ">", looks, ">", *zip(("on snow", "in space", "a sketch"), made, strict=True)],
        ),
        "2_one_photo": ("Checkpoint and photo, nothing else", [photo, ">", looks, ">", shown]),
        "3_two_subjects": (
            "Two subjects in one prompt",
            [("<first>", ref.images[0]), "+", ("<second>", studio.photo(other, 1).images[0]), ">",
             ("your image", "<first> next\nto <second>")],
        ),
        "4_several_references": (
            "Several photos of one subject",
            [*(("", image) for image in several.images), ">", ("five words", studio.looks(several, more)), ">", shown],
        ),
        "5_controlnet": (
            "The subject in a given pose, by ControlNet",
            [photo, "+", ("a pose", studio.edges(studio.photo(other))), ">", shown],
        ),
        "6_load_subject": ("A subject from a file", [("models/embeddings", "my-subject\n.safetensors\n15 KB"), ">", shown]),
        "7_needs_probe": (
            "With a trained probe: ten steps (none is published yet)",
            [photo, "+", ("a probe", "trained for\nSD 1.5"), ">", looks, ">", shown],
        ),
        "8_needs_probe_step_by_step": (
            "The single nodes, with a trained probe (none yet)",
            [("your photo, masked", masked), ">", ("features", "CLIP\nDINOv2\nVAE"), ">", looks, ">", shown],
        ),
        "9_hyperdreambooth": (
            "HyperDreamBooth: weights from one look",
            [("one image", ref.images[0]), ">", ("weights", "predicted,\nthen 40\nsteps"), ">",
             *zip(("on snow", "in space", "a sketch"), studio.finetuned(who, ref), strict=True)],
        ),
        "9_instantbooth": (
            "InstantBooth: no training step",
            [("one image", ref.images[0]), ">", ("an adapter", "reads\nwhile the\nmodel draws"), ">",
             *zip(("on snow", "in space", "a sketch"), studio.read(who, ref), strict=True)],
        ),
    }  # fmt: skip


def draw(headline: str, row: list[Panel | str], path: Path) -> None:
    """Write one thumbnail as a JPEG."""
    page = Page(WIDTH, HEIGHT)
    pen = ImageDraw.Draw(page.image)
    page.text(WIDTH / 2, 62, headline, 30, "mm", width=WIDTH - 2 * EDGE)
    panels, signs = sum(isinstance(part, tuple) for part in row), sum(isinstance(part, str) for part in row)
    gap, sign = 10, 36
    side = min(200, (WIDTH - 2 * EDGE - signs * sign - (len(row) - 1) * gap) // panels)
    x = (WIDTH - panels * side - signs * sign - (len(row) - 1) * gap) // 2
    top = 132 + (230 - side) // 2
    for part in row:
        middle = top + side / 2
        if isinstance(part, str):
            _sign(pen, part, x + sign / 2, middle)
        else:
            caption, content = part
            if isinstance(content, str):
                pen.rounded_rectangle([x, top, x + side, top + side], 10, outline=FAINT, width=2)
                page.text(x + side / 2, middle, content, 18, "mm", INK, side - 12)
            else:
                page.show(content, x, top, side, side)
            page.text(x + side / 2, top + side + 12, caption, 17, "ma", INK, side + 2 * gap)
        x += (sign if isinstance(part, str) else side) + gap
    page.text(WIDTH / 2, HEIGHT - 24, LABEL, 13, "mm", FAINT)
    page.image.save(path, "JPEG", quality=88, optimize=True)


def _sign(pen: ImageDraw.ImageDraw, kind: str, x: float, y: float) -> None:
    pen.line([(x - 16, y), (x + 16, y)], fill=INK, width=3)
    if kind == "+":
        pen.line([(x, y - 16), (x, y + 16)], fill=INK, width=3)
    else:
        pen.line([(x + 7, y - 9), (x + 16, y), (x + 7, y + 9)], fill=INK, width=3, joint="curve")


def write(folder: Path) -> None:
    for name, (headline, row) in strips().items():
        draw(headline, row, folder / f"{name}.jpg")
