"""Encodes prompts with a CLIP's tokenizer and text encoder, differentiable in the subjects' token embeddings."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.models.adapter import EncodedPrompts, Prompt, Written, with_written
from .attention import pytorch_attention
from .base_model import embedding_width, token_table

Token = int | Tensor


def plain_tokens(clip: Any, text: str) -> list[int]:
    """The token ids of `text`, without start and end. Prompt weights and embedding files are not interpreted.

    Raises:
        UserError: the miniature's vocabulary lacks a word.
    """
    tokenizer = clip.tokenizer.clip_l
    ids = tokenizer.tokenizer(text)["input_ids"][1:-1]
    unknown = tokenizer.unknown_words(ids) if hasattr(tokenizer, "unknown_words") else []
    if unknown:
        raise UserError(
            f"the miniature world does not know {', '.join(map(repr, unknown))}; use its few words, such as: a photo of a small red "
            "striped cat with a hat on snow on the left at night"
        )
    return ids


def token_rows(clip: Any, text: str) -> Tensor:
    """The token embeddings [k, d] of `text`, float32."""
    table = token_table(clip)
    ids = torch.tensor(plain_tokens(clip, text), dtype=torch.long, device=table.weight.device)
    with torch.no_grad():
        return table(ids, out_dtype=torch.float32).detach().clone()


def encode(clip: Any, prompts: Sequence[Prompt], device: torch.device) -> EncodedPrompts:
    """Contexts of one chunk each, on `device`; see `TextModel.encode_prompts`. The CLIP must be loaded."""
    laid_out = [_lay_out(clip, prompt) for prompt in prompts]
    counts = {len(columns) for _, columns, _ in laid_out}
    if len(counts) > 1:
        raise ValueError(f"expected prompts with the same number of subject tokens, found {sorted(counts)}")
    stage = clip.cond_stage_model
    stage.reset_clip_options()
    if clip.layer_idx is not None:
        stage.set_clip_options({"layer": clip.layer_idx})
    stage.set_clip_options({"execution_device": clip.patcher.load_device})
    context = stage.clip_l.encode([tokens for tokens, _, _ in laid_out])[0]
    columns = torch.tensor([columns for _, columns, _ in laid_out], dtype=torch.long, device=device)
    ends = torch.tensor([end for _, _, end in laid_out], device=device)
    return EncodedPrompts(with_written(context.to(device), columns, prompts), columns, ends)


def _lay_out(clip: Any, prompt: Prompt) -> tuple[list[Token], list[int], int]:
    """ComfyUI's padded token list of a prompt, the columns of its subject embeddings, and the column of the end token."""
    tokenizer, width = clip.tokenizer.clip_l, embedding_width(clip)
    tokens, columns, used = [tokenizer.start_token], [], 1
    for piece in prompt:
        if isinstance(piece, str):
            ids = plain_tokens(clip, piece)
            tokens += ids
            used += len(ids)
            continue
        piece = piece.embeddings if isinstance(piece, Written) else piece
        if piece.ndim != 2 or piece.shape[1] != width:
            raise ValueError(f"expected subject embeddings [n, {width}], found {list(piece.shape)}")
        columns += range(used, used + len(piece))
        used += len(piece)
        tokens.append(piece)
    if used + 1 > tokenizer.max_length:
        raise UserError(f"expected a prompt of at most {tokenizer.max_length - 2} tokens, found {used - 1}; shorten the prompt")
    return [*tokens, tokenizer.end_token, *[tokenizer.pad_token] * (tokenizer.max_length - used - 1)], columns, used


class OutOfPlaceLayer(nn.Module):
    """A layer of ComfyUI's text encoder without in-place additions, which autograd forbids, and with PyTorch's attention.

    Shares its modules with the original layer.
    """

    def __init__(self, layer: Any):
        super().__init__()
        self.layer_norm1, self.self_attn = layer.layer_norm1, layer.self_attn
        self.layer_norm2, self.mlp = layer.layer_norm2, layer.mlp

    def forward(self, x: Tensor, mask: Tensor | None = None, optimized_attention: Any = None) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), mask, pytorch_attention)
        return x + self.mlp(self.layer_norm2(x))
