"""Text embeddings in CLIP's joint space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..models.adapter import Prompt, TextModel

BATCH = 64  # prompts per forward pass, so that long word lists need little memory


def encode_texts(model: TextModel, project: nn.Module, prompts: Sequence[Prompt]) -> Tensor:
    """Text embeddings [B, P] of B prompts, not normalised; differentiable in the prompts' token embeddings.

    Stable Diffusion 1.5's text encoder is CLIP's, so its state at a prompt's end token is what CLIP projects.
    """
    embeds, weight = [], next(project.parameters())  # `project` may be on another device than the model
    for first in range(0, len(prompts), BATCH):
        encoded = model.encode_prompts(prompts[first : first + BATCH])
        rows = torch.arange(len(encoded.ends), device=encoded.context.device)
        states = encoded.context[rows, encoded.ends]
        embeds.append(project(states.to(weight.device, weight.dtype)).float().to(states.device))
    return torch.cat(embeds)
