"""HybridBooth's losses: the denoising loss, weighted towards the subject, and the mask regularisation of cross-attention.

Axes: B batch, H heads, N latent cells of a layer, n subject tokens, C h w latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.attention import mask_at

MaskLoss = Literal["balanced", "paper"]


def subject_weight(mask: Tensor | None, latents: Tensor, background: float) -> Tensor:
    """Weights [B, 1, h, w] of the denoising loss: 1 on the subject, `background` off it, scaled to mean 1 per image.

    They keep the embeddings from learning the photo's background. Without a mask all weights are 1.
    """
    if mask is None:
        return torch.ones_like(latents[:, :1])
    if mask.ndim != 3 or len(mask) != len(latents):
        raise ValueError(f"expected a mask [B, H, W] for {len(latents)} images, found {list(mask.shape)}")
    small = F.interpolate(mask[:, None].to(latents), size=latents.shape[-2:], mode="bilinear", antialias=True, align_corners=False)
    weight = background + (1 - background) * small
    return weight / weight.mean((2, 3), keepdim=True).clamp_min(1e-6)


def denoising_loss(predicted: Tensor, noise: Tensor, weight: Tensor) -> Tensor:
    """L_eps [B]: the mean of weight x (predicted - noise)^2 per sample (HybridBooth's first loss term)."""
    if predicted.shape != noise.shape:
        raise ValueError(f"expected predicted and true noise of one shape, found {list(predicted.shape)} and {list(noise.shape)}")
    return ((predicted.float() - noise.float()) ** 2 * weight).mean((1, 2, 3))


def mask_regularisation(maps: Sequence[Tensor], mask: Tensor, form: MaskLoss = "balanced") -> Tensor:
    """L_M in -1..1: attention of the subject's tokens to the background minus attention to the subject; lower is better.

    Args:
        maps: attention probabilities [B, H, N, n] per layer. mask: [B, H', W'] in 0..1.
        form: "paper" is mean(A (1 - M)) - mean(A M), which vanishes for a small subject. "balanced" divides each term by its area: -1 for
            attention 1 on the subject alone, +1 on the background alone, 0 for uniform attention.
    """
    terms = []
    for layer in maps:
        inside = mask_at(mask, layer.shape[2])[:, None, :, None].to(layer)
        outside = 1 - inside
        if form == "paper":
            term = (layer * outside).mean(2) - (layer * inside).mean(2)
        elif form == "balanced":
            term = (layer * outside).sum(2) / (outside.sum(2) + 1e-5) - (layer * inside).sum(2) / (inside.sum(2) + 1e-5)
        else:
            raise ValueError(f"expected the mask loss balanced or paper, found {form!r}")
        terms.append(term.mean())
    return torch.stack(terms).mean()
