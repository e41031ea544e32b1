"""The seam: all that HybridBooth's procedures know of a text-to-image model.

Two implementations exist: `diffusers_model.DiffusersModel` (standalone use, training, the miniature) and the one of the ComfyUI nodes.

Axes: B prompts or images, T tokens of a context, d embedding width, n subject words, H heads, N latent cells of an attention layer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import UserError
from .noise_schedule import NoiseSchedule

Piece = str | Tensor  # text, or word embeddings [n, d] that stand where words would stand
Prompt = Sequence[Piece]


@dataclass(frozen=True)
class EncodedPrompts:
    """`context` [B, T, d]; `columns` int64 [B, n]: where in T the embeddings given as tensors ended up; `ends` int64 [B]: the end token."""

    context: Tensor
    columns: Tensor
    ends: Tensor


@dataclass
class AttentionCapture:
    """Collects, during `predict_noise`, how strongly every latent cell looks at the chosen columns of the context.

    `columns` int64 [B, n]. After the call `maps` holds one tensor [B, H, N, n] of probabilities for each cross-attention layer that
    the model hands out (with more than two resolutions: all but the finest, the "middle five" of Stable Diffusion 1.5's seven), with
    N = rows x columns of that layer.
    """

    columns: Tensor
    maps: list[Tensor] = field(default_factory=list)


class TextModel(Protocol):
    """The text encoder of a diffusion model, frozen; gradients flow to the words among its prompts."""

    @property
    def name(self) -> str:
        """What messages and files call it."""
        ...

    @property
    def family(self) -> str:
        """The family of base models whose embeddings it reads, "stable-diffusion-v1" (its ModelSpec name) or "miniature"; "" if unknown."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of its words (`vocabulary_fingerprint`): equal for two models whose words mean the same rows."""
        ...

    @property
    def embedding_width(self) -> int:
        """d: 768 for Stable Diffusion 1.5."""
        ...

    @property
    def device(self) -> torch.device: ...

    def token_embeddings(self, text: str) -> Tensor:
        """The rows [k, d] of the k tokens of `text`, float32, without positions, start or end."""
        ...

    def encode_prompts(self, prompts: Sequence[Prompt]) -> EncodedPrompts:
        """Contexts of B prompts, padded to the model's length; differentiable in the tensors among their pieces.

        Raises:
            UserError: a prompt is too long, or knows words the model does not.
            ValueError: a tensor is not [n, d], or the prompts hold different numbers of subject words.
        """
        ...


class DiffusionModel(TextModel, Protocol):
    """A frozen latent diffusion model. No method changes it; gradients flow to whatever input asks for them."""

    @property
    def schedule(self) -> NoiseSchedule: ...

    @property
    def image_size(self) -> int:
        """The side in pixels at which it is at home: 512 for Stable Diffusion 1.5."""
        ...

    def encode_image(self, images: Tensor) -> Tensor:
        """Images [B, H, W, 3] in 0..1 to latents [B, C, h, w] as the denoiser sees them (already scaled)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, C, h, w] to images [B, H, W, 3] in 0..1."""
        ...

    def predict_noise(self, noisy: Tensor, t: Tensor, context: Tensor, capture: AttentionCapture | None = None) -> Tensor:
        """eps [B, C, h, w] for x_t [B, C, h, w], t int64 [B] and context [B, T, d]."""
        ...


class TrainableModel(DiffusionModel, Protocol):
    """A model whose denoiser can compute with other weights for a while: what DreamBooth and Custom Diffusion need beyond words."""

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """The tokens of its text encoder ("</w>" ends a word, as in CLIP's vocabulary) and their rank there: the higher, the rarer."""
        ...

    @property
    def denoiser(self) -> nn.Module:
        """The network itself, its parameters named as diffusers' UNet2DConditionModel names them. Read and hook it, never write to it."""
        ...

    def replaced(self, weights: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """While open, `predict_noise` computes with these tensors in place of the denoiser's parameters of those names.

        Gradients flow to them. Nothing is written, so nothing remains.

        Raises:
            ValueError: a name that the denoiser does not have, or a tensor of another shape than its parameter.
        """
        ...


def check_family(model: TextModel, what: str, width: int, family: str = "", made_for: str = "") -> None:
    """Refuse embeddings that were made for another family of models.

    Args:
        what: names them in the message, such as "pet.safetensors".
        width: of their vectors.
        family, made_for: the family and the model they were made for; "" where the file does not say.
    Raises:
        UserError: another width, or another family.
    """
    if width == model.embedding_width and (not family or not model.family or family == model.family):
        return
    origin = " ".join(filter(None, (made_for, f"({family})" if family else ""))) or "another model"
    own = f" ({model.family})" if model.family else ""
    raise UserError(
        f"{what} was made for {origin}, width {width}, but {model.name}{own} reads width {model.embedding_width}; "
        "use one made for this family"
    )


COMMON_WORDS = "a photo of a small red cat with a hat on the left in snow at night"


def vocabulary_fingerprint(model: TextModel) -> str:
    """16 hex digits over a few words that every model has.

    Not over the whole table: the miniature's has a few rows standalone, and those same rows among 49408 in ComfyUI.
    """
    return rows_fingerprint(model.token_embeddings(COMMON_WORDS))


def rows_fingerprint(rows: Tensor) -> str:
    """16 hex digits over the rows [k, d] of COMMON_WORDS, in float16."""
    rows = rows.detach().to("cpu", torch.float16).contiguous()
    return hashlib.sha256(rows.view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def class_embedding(model: TextModel, class_noun: str) -> Tensor:
    """The embedding [d] of a class noun, the mean of its tokens'; UserError if it is empty."""
    rows = model.token_embeddings(class_noun)
    if len(rows) == 0:
        raise UserError("expected a class noun such as cat or backpack, found nothing; say what kind of thing the subject is")
    return rows.mean(0)


_NAME = re.compile(r"<([A-Za-z0-9_-]{1,64})>")


def split_prompt(text: str, subjects: Mapping[str, Piece | Prompt]) -> list[Piece]:
    """A prompt as pieces: `<name>` becomes what `subjects` holds for it: a tensor [n, d], (at strength 0) plain text, or several of them.

    Raises:
        UserError: the prompt names a subject that is not there.
    """
    pieces: list[Piece] = []
    end = 0
    for match in _NAME.finditer(text):
        if match[1] not in subjects:
            known = ", ".join(f"<{name}>" for name in subjects) or "none"
            raise UserError(f"the prompt names the subject <{match[1]}>, but the subjects given are: {known}; load it or fix the prompt")
        subject = subjects[match[1]]
        pieces += [text[end : match.start()], *([subject] if isinstance(subject, str | Tensor) else subject)]
        end = match.end()
    pieces.append(text[end:])
    return [piece for piece in pieces if not (isinstance(piece, str) and not piece.strip())]
