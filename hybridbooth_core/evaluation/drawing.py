"""Generates a subject's images as OUT/<subject>/<prompt>/<number>.png; existing images are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import UserError
from ..files.images import save_image
from ..models.adapter import Prompt, TrainableModel
from ..models.sampling import generate, initial_noise
from ..models.seeds import prompt_seed
from .protocol import PhotoSubject


@dataclass(frozen=True)
class DrawingConfig:
    """Sampling options, stored in the result. The defaults are the protocol's 4 images and Stable Diffusion's usual sampling."""

    images: int = 4
    steps: int = 50
    guidance: float = 7.5
    seed: int = 0

    def __post_init__(self):
        if not 1 <= self.images <= 100:
            raise UserError(f"expected 1 to 100 images per prompt, found {self.images}; the protocol uses 4")
        if not 1 <= self.steps <= 1000:
            raise UserError(f"expected 1 to 1000 sampling steps, found {self.steps}")
        if not 0 <= self.guidance <= 30:
            raise UserError(f"expected a guidance scale from 0 to 30, found {self.guidance}; 7.5 is usual")


def image_paths(out: Path, subject: PhotoSubject, prompt: int, count: int) -> list[Path]:
    """The image files of one subject and prompt."""
    return [out / subject.name / f"{prompt:02d}" / f"{number}.png" for number in range(count)]


def missing_prompts(out: Path, subject: PhotoSubject, count: int) -> list[int]:
    """The indices of a subject's prompts that lack an image."""
    return [index for index in range(len(subject.prompts)) if not all(p.exists() for p in image_paths(out, subject, index, count))]


@torch.no_grad()
def generate_images(
    model: TrainableModel, subject: PhotoSubject, index: int, subject_pieces: Prompt, config: DrawingConfig, out: Path
) -> None:
    """Generates and writes the missing images of one prompt.

    Always generates the full batch: the last bits of an image depend on the batch size, and a resumed run must give the same files as an
    uninterrupted one.
    """
    paths = image_paths(out, subject, index, config.images)
    size = model.image_size
    shape = tuple(model.encode_image(torch.zeros(1, size, size, 3)).shape[1:])
    noise = initial_noise(config.images, shape, prompt_seed(config.seed, subject.name, index))
    pieces = subject.prompts[index].pieces(list(subject_pieces))
    images = generate(model, [pieces] * config.images, noise, config.steps, config.guidance)
    if not bool(torch.isfinite(images).all()):
        raise UserError(f"the images of {subject.name} are not finite; lower the method's learning rate, or check the checkpoint")
    try:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {paths[0].parent} cannot be created ({error.strerror or error}); choose another with --out") from error
    for image, path in zip(images, paths, strict=True):
        if not path.exists():
            save_image(image, path)
