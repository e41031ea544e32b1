"""The model adapter: the interface of a text-to-image model that all procedures use.

Implemented by `diffusers_adapter.DiffusersModel` (library, command line and training) and by `HostModel` of the ComfyUI nodes.

Axes: B prompts or images, T tokens of a context, d embedding width, n subject tokens, H heads, N latent cells of an attention layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import UserError
from .noise_schedule import NoiseSchedule


@dataclass(frozen=True, eq=False)
class Written:
    """A piece of a prompt that is written into the encoded text (InstantBooth, arXiv 2304.03411, section 3.2).

    `embeddings` [n, d] stand in its place while the text is encoded, for the tokens behind to read; then its rows of the context become
    `context` [n, d].
    """

    embeddings: Tensor
    context: Tensor


Piece = str | Tensor | Written  # text, or token embeddings [n, d] inserted into the prompt, or rows of the context
Prompt = Sequence[Piece]


@dataclass(frozen=True)
class EncodedPrompts:
    """`context` [B, T, d]; int64 `columns` [B, n], positions of the prompts' tensors and written rows in T, and `ends` [B], positions of
    the end tokens.
    """

    context: Tensor
    columns: Tensor
    ends: Tensor


def with_written(context: Tensor, columns: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    """The context [B, T, d] with the written pieces of B prompts in their places.

    `columns` [B, n] are those of all pieces that are no text.

    Without written pieces it is the very same tensor.
    """
    rows, places, written = [], [], []
    for row, prompt in enumerate(prompts):
        start = 0
        for piece in prompt:
            if isinstance(piece, str):
                continue
            count = len(piece.context if isinstance(piece, Written) else piece)
            if isinstance(piece, Written):
                rows += [row] * count
                places.append(columns[row, start : start + count])
                written.append(piece.context.to(context))
            start += count
    if not written:
        return context
    return context.index_put((torch.tensor(rows, device=context.device), torch.cat(places)), torch.cat(written))


@dataclass
class AttentionCapture:
    """Captures cross-attention maps during `predict_noise`.

    `columns` int64 [B, n] selects tokens of the context. The call appends to `maps` the attention probabilities [B, H, N, n] of each
    cross-attention layer, except those of the finest of more than two resolutions.
    """

    columns: Tensor
    maps: list[Tensor] = field(default_factory=list)


class TextModel(Protocol):
    """The frozen text encoder of a diffusion model. Gradients flow to the token embeddings in its prompts."""

    @property
    def name(self) -> str:
        """The model's name in messages and files."""
        ...

    @property
    def family(self) -> str:
        """The family of base models whose embeddings it reads, "stable-diffusion-v1" (its ModelSpec name) or "miniature"; "" if unknown."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of its embedding table (`vocabulary_fingerprint`), equal for models that share token embeddings."""
        ...

    @property
    def embedding_width(self) -> int:
        """d: 768 for Stable Diffusion 1.5."""
        ...

    @property
    def device(self) -> torch.device: ...

    def token_embeddings(self, text: str) -> Tensor:
        """The token embeddings [k, d] of `text`, float32, without positions, start or end."""
        ...

    def encode_prompts(self, prompts: Sequence[Prompt]) -> EncodedPrompts:
        """Encodes B prompts, padded to the model's length; differentiable in the prompts' tensors.

        Raises:
            UserError: a prompt is too long, or has a word that the model does not know.
            ValueError: a tensor is not [n, d], or the prompts have different numbers of subject tokens.
        """
        ...


class DiffusionModel(TextModel, Protocol):
    """A frozen latent diffusion model. No method changes it; gradients flow to all inputs that require them."""

    @property
    def schedule(self) -> NoiseSchedule: ...

    @property
    def image_size(self) -> int:
        """The side in pixels of the images it was trained on: 512 for Stable Diffusion 1.5."""
        ...

    def encode_image(self, images: Tensor) -> Tensor:
        """Images [B, H, W, 3] in 0..1 to latents [B, C, h, w], scaled for the denoiser."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, C, h, w] to images [B, H, W, 3] in 0..1."""
        ...

    def predict_noise(self, noisy: Tensor, t: Tensor, context: Tensor, capture: AttentionCapture | None = None) -> Tensor:
        """eps [B, C, h, w] for x_t [B, C, h, w], t int64 [B] and context [B, T, d]."""
        ...


class ProbeTeacher(DiffusionModel, Protocol):
    """A frozen model on which a probe is trained, and which may draw the images for that."""

    def latent_shape(self, size: int | None = None) -> tuple[int, int, int]:
        """The shape (C, h, w) of a square image's latents, by default of `image_size`."""
        ...

    def network_output(self, noisy: Tensor, t: Tensor, context: Tensor, capture: AttentionCapture | None = None) -> Tensor:
        """What the denoiser itself predicts (eps or v) for the inputs of `predict_noise`."""
        ...


class TrainableModel(DiffusionModel, Protocol):
    """A model whose denoiser weights can be replaced for a while, as DreamBooth and Custom Diffusion need."""

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """The text encoder's tokens ("</w>" ends a word, as in CLIP's vocabulary) to their ids; higher ids are rarer."""
        ...

    @property
    def text_encoder(self) -> nn.Module:
        """A CLIP text transformer, with the parameter names of transformers' CLIPTextModel. Add hooks, but do not change it."""
        ...

    @property
    def denoiser(self) -> nn.Module:
        """The network, with the parameter names of diffusers' UNet2DConditionModel. Read it or add hooks, but do not change it."""
        ...

    def replaced(self, weights: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """While open, `predict_noise` uses these tensors instead of the denoiser's parameters, by name. Gradients flow to them.

        Raises:
            ValueError: the denoiser has no parameter of a name, or it has another shape.
        """
        ...


class Named(Protocol):
    """The attributes of a model that `check_family` uses."""

    @property
    def name(self) -> str: ...

    @property
    def family(self) -> str: ...

    @property
    def embedding_width(self) -> int: ...


@dataclass(frozen=True)
class Reader:
    """A text encoder's name, family and embedding width, for `check_family`."""

    name: str
    family: str
    embedding_width: int


def check_family(model: Named, what: str, width: int, family: str = "", made_for: str = "") -> None:
    """Refuses embeddings that were made for another family of models.

    Args:
        what: their name in the message, such as "pet.safetensors".
        width: their embedding width.
        family, made_for: the family and the model that they were made for; "" if unknown.
    Raises:
        UserError: the width or the family differs from the model's.
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
    """16 hex digits of SHA-256 over the embeddings of a few common words.

    Not over the whole table, since the miniature's table is larger in ComfyUI, where most of its 49408 rows are unused.
    """
    return rows_fingerprint(model.token_embeddings(COMMON_WORDS))


def rows_fingerprint(rows: Tensor) -> str:
    """16 hex digits of SHA-256 over the token embeddings [k, d] of COMMON_WORDS in float16."""
    rows = rows.detach().to("cpu", torch.float16).contiguous()
    return hashlib.sha256(rows.view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def class_embedding(model: TextModel, class_noun: str) -> Tensor:
    """The mean token embedding [d] of a class noun; UserError if it is empty."""
    rows = model.token_embeddings(class_noun)
    if len(rows) == 0:
        raise UserError("expected a class noun such as cat or backpack, found none; enter the kind of thing that the subject is")
    return rows.mean(0)
