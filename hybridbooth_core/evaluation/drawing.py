"""Draws a subject's images to OUT/<subject>/<prompt>/<number>.png; what is there already is never drawn again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import UserError
from ..files.images import save_image
from ..models.adapter import Prompt, TrainableModel
from ..models.sampling import generate, initial_noise
from .protocol import PhotoSubject


@dataclass(frozen=True)
class DrawingConfig:
    """How images are drawn; all of it is in the result. The defaults are the protocol's 4 and Stable Diffusion's usual."""

    images: int = 4
    steps: int = 50
    guidance: float = 7.5
    seed: int = 0

    def __post_init__(self):
        if not 1 <= self.images <= 100:
            raise UserError(f"expected 1 to 100 images for each prompt, found {self.images}; the protocol's number is 4")
        if not 1 <= self.steps <= 1000:
            raise UserError(f"expected 1 to 1000 sampling steps, found {self.steps}")
        if not 0 <= self.guidance <= 30:
            raise UserError(f"expected a guidance from 0 to 30, found {self.guidance}; 7.5 is usual")


def image_paths(out: Path, subject: PhotoSubject, prompt: int, count: int) -> list[Path]:
    """Where the images of one subject and prompt are."""
    return [out / subject.name / f"{prompt:02d}" / f"{number}.png" for number in range(count)]


def missing_prompts(out: Path, subject: PhotoSubject, count: int) -> list[int]:
    """The prompts of a subject that lack an image."""
    return [index for index in range(len(subject.prompts)) if not all(p.exists() for p in image_paths(out, subject, index, count))]


def noise_seed(seed: int, subject: str, prompt: int) -> int:
    """A seed of its own for each subject and prompt; the same for all methods, so that they are compared on the same noise."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{subject}/{prompt}".encode()).digest()[:4], "big")


@torch.no_grad()
def draw_prompt(model: TrainableModel, subject: PhotoSubject, index: int, stands_for: Prompt, config: DrawingConfig, out: Path) -> None:
    """Draw and write the missing images of one prompt.

    All of the prompt's images are drawn together even where only one is missing: the last bits of an image depend on how many share a
    batch, and a continued run must end up with the very files of an uninterrupted one.
    """
    paths = image_paths(out, subject, index, config.images)
    size = model.image_size
    shape = tuple(model.encode_image(torch.zeros(1, size, size, 3)).shape[1:])
    noise = initial_noise(config.images, shape, noise_seed(config.seed, subject.name, index))
    pieces = subject.prompts[index].pieces(list(stands_for))
    images = generate(model, [pieces] * config.images, noise, config.steps, config.guidance)
    if not bool(torch.isfinite(images).all()):
        raise UserError(f"the images of {subject.name} hold values that are not finite; lower the method's rate, or check the checkpoint")
    try:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {paths[0].parent} cannot be made ({error.strerror or error}); choose another with --out") from error
    for image, path in zip(images, paths, strict=True):
        if not path.exists():
            save_image(image, path)
