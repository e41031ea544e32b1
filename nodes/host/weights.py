"""What a fresh probe takes over from a wired MODEL and CLIP: the denoiser's own tensors, and how long its words are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...hybridbooth_core.models.adapter import COMMON_WORDS, rows_fingerprint
from .base_model import check_clip, check_model, embedding_width, word_table
from .text import word_rows

UNUSED_IDS = 2  # the ids at the end of CLIP's table, start and end of text, are no words


def denoiser_state(model: Any, clip: Any) -> dict[str, Tensor]:
    """Copies of a denoiser's tensors in LDM layout, float32 on the CPU, as its checkpoint holds them: patches such as LoRAs do not count.

    Raises:
        UserError: the MODEL or the CLIP is not of Stable Diffusion 1.5's family.
    """
    check_clip(clip)
    check_model(model, embedding_width(clip))
    backups = {key.removeprefix("diffusion_model."): saved.weight for key, saved in model.backup.items()}
    with torch.inference_mode(False):
        state = {**model.model.diffusion_model.state_dict(), **backups}
        return {key: tensor.detach().to("cpu", torch.float32, copy=True) for key, tensor in state.items()}


def base_of(model: Any, clip: Any) -> tuple[str, str, int]:
    """The model's name, the fingerprint of its words, and their width, as `HostModel` says them."""
    return type(model.model.model_config).__name__, rows_fingerprint(word_rows(clip, COMMON_WORDS)), embedding_width(clip)


def attention_heads(model: Any) -> int:
    """How many heads the denoiser's attentions have."""
    unet = model.model.diffusion_model
    return next(module.heads for module in unet.modules() if hasattr(module, "heads"))


def embedding_norm(clip: Any) -> float:
    """The mean length of the vocabulary's words."""
    table = word_table(clip).weight[:-UNUSED_IDS].float()
    lengths = table.norm(dim=1)
    return round(float(lengths[lengths > 0].mean()), 6)  # the miniature fills few of CLIP's rows
