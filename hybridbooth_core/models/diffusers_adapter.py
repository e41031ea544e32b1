"""The model adapter of diffusers' UNet and transformers' CLIP text encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import UserError
from .adapter import AttentionCapture, EncodedPrompts, Prompt, Written, vocabulary_fingerprint, with_written
from .attention import head_probabilities
from .checkpointing import checkpointed
from .free_memory import free_memory
from .gradient_scaling import HALF_SCALE, scale_gradient
from .memory import MemoryPlan
from .noise_schedule import NoiseSchedule

MAX_SIDE = 2048  # pixels
SD15_CHANNELS = 320
# Saved activations of one latent cell of one row, float32: 5 GB and 2 GB a row of 512 pixels were measured, and a fifth is added.
CELL_BYTES, CELL_BYTES_CHECKPOINTED = 1_460_000, 590_000


class Tokenizer(Protocol):
    """Text to token ids, without start and end. `start`, `end` and `pad` are ids; `length` is the context length with start and end."""

    start: int
    end: int
    pad: int
    length: int

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """See `TrainableModel.vocabulary`."""
        ...

    def encode(self, text: str) -> list[int]: ...


class ImageCoder(Protocol):
    """Images [B, H, W, 3] in 0..1 to scaled latents and back."""

    def encode(self, images: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


class DiffusersModel:
    """Implements `TrainableModel` and `SupportsCheckpointing` on a UNet2DConditionModel and a CLIPTextModel; see there.

    The networks must be frozen.
    """

    def __init__(
        self,
        name: str,
        unet: Any,
        text_encoder: Any,
        tokenizer: Tokenizer,
        coder: ImageCoder,
        schedule: NoiseSchedule,
        image_size: int,
        family: str = "",
    ):
        self.name, self.image_size, self.family = name, image_size, family
        self._cell = image_size // unet.config.sample_size  # pixels per side of a latent cell
        self.unet, self.text_encoder, self.tokenizer, self.coder, self.schedule = unet, text_encoder, tokenizer, coder, schedule
        self._text = getattr(text_encoder, "text_model", text_encoder)  # transformers 4 wraps the transformer, 5 does not
        self._weights: Mapping[str, Tensor] = {}
        self._checkpointing = False
        self._table: nn.Embedding = self._text.embeddings.token_embedding
        if unet.config.cross_attention_dim != self.embedding_width:
            raise UserError(
                f"the denoiser of {name} reads embeddings of width {unet.config.cross_attention_dim}, but its text encoder's have width "
                f"{self.embedding_width}; use parts of one model"
            )

    @property
    def embedding_width(self) -> int:
        return self._table.weight.shape[1]

    @property
    def device(self) -> torch.device:
        return self._table.weight.device

    def to(self, device: torch.device | str) -> DiffusersModel:
        """Moves the networks to a device; returns the model."""
        for part in (self.unet, self.text_encoder, self.coder):
            if isinstance(part, nn.Module):
                part.to(device)
        return self

    def latent_shape(self, size: int | None = None) -> tuple[int, int, int]:
        """Latent shape (C, h, w) of a square image, by default of the model's image size; UserError if the size does not fit."""
        size = size or self.image_size
        cell = self._cell
        halvings = 2 ** (len(self.unet.config.block_out_channels) - 1)
        if size % (cell * halvings) or not 0 < size <= MAX_SIDE:
            raise UserError(
                f"expected a size divisible by {cell * halvings} and at most {MAX_SIDE} pixels, found {size}; {self.image_size} is usual"
            )
        return self.unet.config.in_channels, size // cell, size // cell

    def token_table(self) -> Tensor:
        """The token embedding table [V, d], detached."""
        return self._table.weight.detach()

    @property
    def fingerprint(self) -> str:
        return vocabulary_fingerprint(self)

    def token_embeddings(self, text: str) -> Tensor:
        ids = torch.tensor(self.tokenizer.encode(text), device=self.device, dtype=torch.long)
        return self._table.weight[ids].detach().float()

    def encode_prompts(self, prompts: Sequence[Prompt]) -> EncodedPrompts:
        laid_out = [self._lay_out(prompt) for prompt in prompts]
        counts = {len(columns) for _, columns, _, _ in laid_out}
        if len(counts) > 1:
            raise ValueError(f"expected prompts with the same number of subject tokens, found {sorted(counts)}")
        ids = torch.tensor([row for row, _, _, _ in laid_out], device=self.device)
        columns = torch.tensor([row for _, row, _, _ in laid_out], device=self.device, dtype=torch.long)
        embeddings = [row for _, _, row, _ in laid_out]
        ends = torch.tensor([end for _, _, _, end in laid_out], device=self.device)
        with self._with_embeddings(columns, embeddings):
            context = self.text_encoder(ids).last_hidden_state
        return EncodedPrompts(with_written(context, columns, prompts), columns, ends)

    def _lay_out(self, prompt: Prompt) -> tuple[list[int], list[int], Tensor | None, int]:
        """Padded token ids of a prompt, the columns of its embeddings, these embeddings [n, d], and the column of the end token."""
        ids, columns, embeddings = [self.tokenizer.start], [], []
        for piece in prompt:
            if isinstance(piece, str):
                ids += self.tokenizer.encode(piece)
                continue
            piece = piece.embeddings if isinstance(piece, Written) else piece
            if piece.ndim != 2 or piece.shape[1] != self.embedding_width:
                raise ValueError(f"expected subject embeddings [n, {self.embedding_width}], found {list(piece.shape)}")
            columns += range(len(ids), len(ids) + len(piece))
            ids += [self.tokenizer.pad] * len(piece)
            embeddings.append(piece)
        ids.append(self.tokenizer.end)
        if len(ids) > self.tokenizer.length:
            raise UserError(
                f"expected a prompt of at most {self.tokenizer.length - 2} tokens for {self.name}, found {len(ids) - 2}; shorten the prompt"
            )
        end = len(ids) - 1
        ids += [self.tokenizer.pad] * (self.tokenizer.length - len(ids))
        return ids, columns, torch.cat([w.to(self.device) for w in embeddings]) if embeddings else None, end

    @contextmanager
    def _with_embeddings(self, columns: Tensor, embeddings: list[Tensor | None]) -> Iterator[None]:
        """While open, a hook inserts subject embeddings at their columns, before the positions are added."""
        if columns.shape[1] == 0:
            yield
            return
        stacked = torch.stack([w for w in embeddings if w is not None])

        def insert(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            rows = torch.arange(len(output), device=output.device)[:, None]
            return output.index_put((rows, columns), stacked.to(output.dtype))

        hook = self._table.register_forward_hook(insert)
        try:
            yield
        finally:
            hook.remove()

    def encode_image(self, images: Tensor) -> Tensor:
        return self.coder.encode(images.to(self.device))

    def decode(self, latents: Tensor) -> Tensor:
        return self.coder.decode(latents)

    def predict_noise(self, noisy: Tensor, t: Tensor, context: Tensor, capture: AttentionCapture | None = None) -> Tensor:
        return self.schedule.noise_from_output(self.network_output(noisy, t, context, capture), noisy, t)

    def network_output(self, noisy: Tensor, t: Tensor, context: Tensor, capture: AttentionCapture | None = None) -> Tensor:
        """The denoiser's own prediction (eps or v), computed in its dtype and returned in that of `noisy`."""
        # replaced weights would get scaled gradients too, so their trainer scales its loss instead
        scale = HALF_SCALE if self.unet.dtype == torch.float16 and context.requires_grad and not self._weights else 1.0
        inputs = scale_gradient(noisy, 1 / scale).to(self.unet.dtype), t, scale_gradient(context, 1 / scale).to(self.unet.dtype)
        with self._capturing(capture, scale):
            if self._weights:  # without checkpointing: in the backward pass the replaced weights are gone
                return functional_call(self.unet, dict(self._weights), inputs).sample.to(noisy.dtype)
            with checkpointed(self._blocks() if self._checkpointing and torch.is_grad_enabled() else ()):
                return scale_gradient(self.unet(*inputs).sample.to(noisy.dtype), scale)

    def _blocks(self) -> list[nn.Module]:
        """The residual blocks and transformers; none contains another."""
        levels = [*self.unet.down_blocks, self.unet.mid_block, *self.unet.up_blocks]
        return [layer for level in levels for name in ("resnets", "attentions") for layer in getattr(level, name, None) or ()]

    @contextmanager
    def use_plan(self, plan: MemoryPlan) -> Iterator[None]:
        """See `memory.SupportsCheckpointing`."""
        before, self._checkpointing = self._checkpointing, plan.checkpointing
        try:
            yield
        finally:
            self._checkpointing = before

    def memory_needed(self, plan: MemoryPlan) -> int:
        """Bytes of a step's saved activations, by what Stable Diffusion 1.5 was measured to take for each latent cell; with a margin."""
        rows, cells = plan.batch_size, (plan.side // self._cell) ** 2
        width = self.unet.config.block_out_channels[0] / SD15_CHANNELS
        each = CELL_BYTES_CHECKPOINTED if plan.checkpointing else CELL_BYTES
        return int(rows * cells * width * each * next(self.unet.parameters()).element_size() / 4)

    def memory_free(self) -> int:
        return free_memory(self.device)

    @property
    def vocabulary(self) -> Mapping[str, int]:
        return self.tokenizer.vocabulary

    @property
    def denoiser(self) -> nn.Module:
        return self.unet

    @contextmanager
    def replaced(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        own = dict(self.unet.named_parameters())
        for name, tensor in weights.items():
            if name not in own or own[name].shape != tensor.shape:
                expected = f"{name} {list(own[name].shape)}" if name in own else f"a parameter of the denoiser of {self.name}"
                raise ValueError(f"expected {expected}, found {name} {list(tensor.shape)}")
        before, self._weights = self._weights, {**self._weights, **weights}
        try:
            yield
        finally:
            self._weights = before

    @contextmanager
    def _capturing(self, capture: AttentionCapture | None, scale: float) -> Iterator[None]:
        """While open, hooks store queries and keys of the captured cross-attentions; closing computes the maps.

        Not earlier, since a checkpointed block runs again in the backward pass, without the hooks. Gradients of the maps are multiplied
        by `scale`, like those of the denoiser's output.
        """
        if capture is None:
            yield
            return
        captured: list[Tensor] = []
        attentions = self._captured_attentions()

        def keep(module, args, output):
            captured.append(output)

        hooks = [layer.register_forward_hook(keep) for attention in attentions for layer in (attention.to_q, attention.to_k)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        for attention, query, key in zip(attentions, captured[::2], captured[1::2], strict=True):
            capture.maps.append(scale_gradient(head_probabilities(query, key, attention.heads, capture.columns), scale))

    def _captured_attentions(self) -> list[Any]:
        """The cross-attentions that `AttentionCapture` captures, in the denoiser's order of execution."""
        down, up = list(self.unet.down_blocks), list(self.unet.up_blocks)
        if len(down) > 2:  # without the finest resolution: the first down block and the last up block
            down, up = down[1:], up[:-1]
        blocks = [*down, self.unet.mid_block, *up]
        layers = [layer for block in blocks for layer in getattr(block, "attentions", [])]
        return [block.attn2 for layer in layers for block in layer.transformer_blocks]
