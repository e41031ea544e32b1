"""A training set that the base model draws itself: described subjects, each in several scenes from the same initial noise.

The scenes of one description show nearly the same subject, so they are cross pairs; masks come from the cross-attention of its words.

Axes: B images, H W height and width, C h w latents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from io import BytesIO
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import UserError
from ..models.adapter import AttentionCapture, ProbeTeacher, Prompt
from ..models.attention import token_maps
from ..models.sampling import generate, initial_noise
from ..models.seeds import drawing_generator, drawing_seed
from .items import SUBJECT, Facts, Item, LeftOut
from .vocabulary import Description, Vocabulary, describe

MASK_TIMES = (0.4, 0.6)  # fractions of the noise schedule at which the attention is read
THRESHOLD = 0.8  # a pixel is the subject's if its attention is so many standard deviations above the mean
LEVELS = 255


@dataclass(frozen=True)
class DrawingSettings:
    """How images are drawn: descriptions, scenes of each, seed, and sampling as in `models.sampling.generate`."""

    count: int
    views: int = 2
    seed: int = 0
    steps: int = 30
    guidance: float = 7.5
    sampler: str = ""
    batch: int = 4  # descriptions that are drawn at once

    def __post_init__(self):
        if not 1 <= self.count <= 10_000_000 or not 1 <= self.views <= 16:
            raise UserError(f"expected 1 to 10000000 subjects in 1 to 16 scenes each, found {self.count} and {self.views}")


class Drawing:
    """Descriptions, drawn when they are read. Image i depends on the model, the vocabulary, the settings and i alone."""

    def __init__(self, model: ProbeTeacher, vocabulary: Vocabulary, settings: DrawingSettings):
        """UserError if the vocabulary has too few scenes."""
        if len(vocabulary.scenes) < settings.views:
            raise UserError(f"the vocabulary has {len(vocabulary.scenes)} scenes, fewer than the {settings.views} of a subject; add some")
        self.model, self.vocabulary, self.settings = model, vocabulary, settings
        self._lock = Lock()  # workers of `prepare` read in parallel, the model draws one batch at a time
        self._batch = lru_cache(2)(self._draw)

    @property
    def config(self) -> dict[str, Any]:
        """What decides the images, for the shards' index."""
        words = hashlib.sha256(repr(self.vocabulary).encode()).hexdigest()[:12]
        return {**asdict(self.settings), "model": self.model.name, "fingerprint": self.model.fingerprint, "vocabulary": words}

    def items(self) -> Iterator[Item]:
        """The images as items of a source, in order. Nothing is drawn until an item's image is read."""
        for number in range(self.settings.count):
            description = self.description(number)
            for view, (before, after) in enumerate(description.scenes):
                facts = Facts(
                    identity=f"{number:08d}",
                    class_word=description.noun,
                    source=f"drawn by {self.model.name}: {description.phrase}",
                    prompt=" ".join(filter(None, (before, SUBJECT, after))),
                )
                yield Item(f"{number:08d}/{view}", _Drawn(self, number, view, 0), _Drawn(self, number, view, 1), facts)

    def description(self, number: int) -> Description:
        return describe(self.vocabulary, drawing_generator(self.settings.seed, number), self.settings.views)

    def read(self, number: int, view: int, part: int) -> bytes:
        """The PNG of an image (part 0) or of its mask (part 1)."""
        with self._lock:
            images = self._batch(number // self.settings.batch)
        return images[number % self.settings.batch * self.settings.views + view][part]

    def _draw(self, batch: int) -> list[tuple[bytes, bytes]]:
        s = self.settings
        numbers = range(batch * s.batch, min((batch + 1) * s.batch, s.count))
        descriptions = [self.description(number) for number in numbers]
        prompts = [self._prompt(description, scene) for description in descriptions for scene in description.scenes]
        seeds = [drawing_seed(s.seed, number) for number in numbers for _ in range(s.views)]
        noise = torch.cat([initial_noise(1, self.model.latent_shape(), seed) for seed in seeds])
        images = generate(self.model, prompts, noise, s.steps, s.guidance, sampler=s.sampler).float().cpu()
        masks = [subject_mask(self.model, image, prompt, seed) for image, prompt, seed in zip(images, prompts, seeds, strict=True)]
        return [(_png(image), _png(mask)) for image, mask in zip(images, masks, strict=True)]

    def _prompt(self, description: Description, scene: tuple[str, str]) -> Prompt:
        """The subject's words as embeddings, which are the text's own, so that their columns of the attention are known."""
        before, after = scene
        return [before, self.model.token_embeddings(description.phrase), after]


@dataclass(frozen=True, eq=False)
class _Drawn:
    """An image or mask to be drawn when it is read, in place of an `items.Blob`."""

    drawing: Drawing
    number: int
    view: int
    part: int

    def read(self, limit: int) -> bytes:
        content = self.drawing.read(self.number, self.view, self.part)
        if len(content) > limit:
            raise LeftOut("large", f"more than {limit} bytes")
        return content


@torch.no_grad()
def subject_mask(model: ProbeTeacher, image: Tensor, prompt: Prompt, seed: int, times: Sequence[float] = MASK_TIMES) -> Tensor:
    """The mask [H, W] of what the embeddings in a prompt attend to on an image [H, W, 3]: 1 on the subject, else 0.

    The cross-attention of the denoiser's decoder, which is the sharpest, is averaged over noise levels and thresholded. The largest
    connected part remains, without holes.
    """
    latents, encoded = model.encode_image(image[None]), model.encode_prompts([prompt])
    attention = torch.zeros(image.shape[:2])
    for number, time in enumerate(times):
        t = torch.tensor([int(time * len(model.schedule))], device=latents.device)
        noise = initial_noise(1, tuple(latents.shape[1:]), seed + 1 + number).to(latents)
        capture = AttentionCapture(encoded.columns)
        model.predict_noise(model.schedule.add_noise(latents, noise, t), t, encoded.context, capture)
        attention += token_maps(capture.maps[len(capture.maps) // 2 + 1 :], image.shape[0])[0].mean(0)
    return largest_part(attention > attention.mean() + THRESHOLD * attention.std())


def largest_part(chosen: Tensor) -> Tensor:
    """The largest connected part of a boolean image [H, W], its holes filled, as 0 and 1; zeros if nothing is chosen."""
    from scipy import ndimage

    parts, count = ndimage.label(chosen.numpy())  # type: ignore[misc]
    if count == 0:
        return torch.zeros(chosen.shape)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    whole = np.asarray(ndimage.binary_fill_holes(parts == sizes.argmax()), dtype=np.float32)
    return torch.from_numpy(whole)


def _png(image: Tensor) -> bytes:
    file = BytesIO()
    Image.fromarray((image.clamp(0, 1) * LEVELS).round().byte().numpy()).save(file, "PNG")
    return file.getvalue()
