"""What a new probe needs of a MODEL and a CLIP: the denoiser's weights, the base model's name, and the embeddings' norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...hybridbooth_core.models.adapter import COMMON_WORDS, rows_fingerprint
from .base_model import check_clip, check_model, embedding_width, token_table
from .text import token_rows

UNUSED_IDS = 2  # the last ids of CLIP's table, start and end of text, are not words


def denoiser_state(model: Any, clip: Any) -> dict[str, Tensor]:
    """Copies of the denoiser's tensors in LDM layout, float32 on the CPU, without patches such as LoRAs.

    Raises:
        UserError: the MODEL or the CLIP is not from a Stable Diffusion 1.5 model.
    """
    check_clip(clip)
    check_model(model, embedding_width(clip))
    backups = {key.removeprefix("diffusion_model."): saved.weight for key, saved in model.backup.items()}
    with torch.inference_mode(False):
        state = {**model.model.diffusion_model.state_dict(), **backups}
        return {key: tensor.detach().to("cpu", torch.float32, copy=True) for key, tensor in state.items()}


def base_of(model: Any, clip: Any) -> tuple[str, str, int]:
    """The base model's name, fingerprint and embedding width, as in `HostModel`."""
    return type(model.model.model_config).__name__, rows_fingerprint(token_rows(clip, COMMON_WORDS)), embedding_width(clip)


def attention_heads(model: Any) -> int:
    """The number of the denoiser's attention heads."""
    unet = model.model.diffusion_model
    return next(module.heads for module in unet.modules() if hasattr(module, "heads"))


def embedding_norm(clip: Any) -> float:
    """The mean norm of the vocabulary's embeddings."""
    table = token_table(clip).weight[:-UNUSED_IDS].float()
    norms = table.norm(dim=1)
    return round(float(norms[norms > 0].mean()), 6)  # most of the miniature's rows are zero
