"""Images and texts as points of CLIP's shared space, where they can be compared."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..models.adapter import Prompt, TextModel

AT_ONCE = 64  # texts of one pass, so that a long list of words needs little memory


def encode_texts(model: TextModel, project: nn.Module, prompts: Sequence[Prompt]) -> Tensor:
    """B prompts to points [B, P], not normalised; differentiable in the tensors among their pieces.

    The text encoder of Stable Diffusion 1.5 is CLIP's own, so the state at a prompt's end token is what CLIP projects.
    """
    points, weight = [], next(project.parameters())  # which may be on another device than the model
    for first in range(0, len(prompts), AT_ONCE):
        encoded = model.encode_prompts(prompts[first : first + AT_ONCE])
        rows = torch.arange(len(encoded.ends), device=encoded.context.device)
        states = encoded.context[rows, encoded.ends]
        points.append(project(states.to(weight.device, weight.dtype)).float().to(states.device))
    return torch.cat(points)
