"""Metrics by the judge: attribute accuracies and identity similarity.

Axes: B images, D width of an identity vector.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .nets import Judge
from .world import PATTERNS, Creatures, Scenes

CONTEXT = ("background", "place", "size", "accessory", "style")


def targets(creatures: Creatures, scenes: Scenes) -> dict[str, Tensor]:
    """The judge's targets by head: class indices, (cos, sin) of both hues, saturations and values, and attributes in 0..1."""
    angle = creatures.hue * (2 * math.pi)
    numbers = {name: getattr(creatures, name)[:, None] for name in ("frequency", "aspect", "ear", "eye")}
    classes = {name: getattr(scenes, name) for name in CONTEXT}
    return {
        "kind": creatures.kind,
        "pattern": creatures.pattern,
        "hue": torch.cat([angle.cos(), angle.sin()], 1),
        "tone": torch.cat([creatures.saturation, creatures.value], 1),
        **numbers,
        **classes,
    }


def judge_loss(outputs: dict[str, Tensor], truth: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of classes plus squared error of numbers, with weights that balance the heads."""
    loss = torch.zeros(())
    for name, out in outputs.items():
        if truth[name].ndim == 1:
            loss = loss + F.cross_entropy(out, truth[name])
        else:
            loss = loss + F.mse_loss(out, truth[name]) * (2.0 if name == "hue" else 8.0)
    return loss


def identity_vector(outputs: dict[str, Tensor]) -> Tensor:
    """Identity vectors [B, D = 18] from the judge's outputs, without the class noun, each part with about unit standard deviation.

    Hues as (cos, sin), patterns as probabilities, proportions as numbers; the constants are means and deviations of uniform attributes.
    """
    third = math.sqrt(1 / 12)
    pattern = (outputs["pattern"].softmax(-1) - 1 / len(PATTERNS)) / math.sqrt((1 / len(PATTERNS)) * (1 - 1 / len(PATTERNS)))
    tone = (outputs["tone"] - torch.tensor([0.75, 0.75, 0.75, 0.75])) / torch.tensor([0.4, 0.4, 0.5, 0.5]).mul(third)
    numbers = [(outputs[name] - 0.5) / third for name in ("frequency", "aspect", "ear", "eye")]
    return torch.cat([outputs["hue"] * math.sqrt(2), pattern, 0.5 * tone, *numbers], 1)


@torch.no_grad()
def identity_score(judge: Judge, images: Tensor, true_images: Tensor) -> Tensor:
    """Cosine [B] of the identity vectors of `images` and of true renders of the same creatures in the same scenes.

    1 for the same identity, about 0 for another one.
    """
    return F.cosine_similarity(identity_vector(judge(images)), identity_vector(judge(true_images)), dim=1)


@torch.no_grad()
def accuracies(judge: Judge, images: Tensor, creatures: Creatures, scenes: Scenes) -> dict[str, Tensor]:
    """1 or 0 per image [B] for `kind`, `pattern` and the five attributes of the scene.

    `prompt` is 1 where all five attributes of the scene are right.
    """
    outputs, truth = judge(images), targets(creatures, scenes)
    right = {name: (outputs[name].argmax(-1) == truth[name]).float() for name in ("kind", "pattern", *CONTEXT)}
    return right | {"prompt": torch.stack([right[name] for name in CONTEXT]).amin(0)}
