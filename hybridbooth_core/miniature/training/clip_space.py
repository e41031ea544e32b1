"""Trains the joint space of images and the model's text encoder: one linear projection per side, as in CLIP."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...models.adapter import Prompt
from ...models.diffusers_adapter import DiffusersModel
from ...models.seeds import stage_generator
from ...probe_free.space import encode_texts
from ...refine.captions import TEMPLATES
from ..captions import describe, scene_prompt
from ..nets import ClipHeads, ImageEncoder
from ..render import render
from ..world import Creatures, Scenes
from ..world_model import WIDTH
from .images import choose, degrade, references
from .loop import Schedule, train
from .readers import contrastive_loss

NEUTRAL = 0.5  # fraction of captions without a scene, like the templates of probe-free initial embeddings
SCENE_KEPT = 0.4  # probability of each word of a scene otherwise, since most of the scene is masked in the image


def captions(who: Creatures, where: Scenes, generator: torch.Generator) -> list[Prompt]:
    """Captions that describe the creatures fully and their scenes in part."""
    prompts: list[Prompt] = []
    for row in range(len(who)):
        noun = describe(who, row, 0.9, generator)
        neutral = torch.rand((), generator=generator).item() < NEUTRAL
        template = TEMPLATES[int(torch.randint(len(TEMPLATES), (), generator=generator))]
        prompts.append([*template, noun] if neutral else scene_prompt(where, row, [noun], SCENE_KEPT, generator))
    return prompts


def train_clip_space(schedule: Schedule, folder: Path, model: DiffusersModel, clip: ImageEncoder, seed: int = 0) -> ClipHeads:
    """Trains the projections contrastively on images and captions of train creatures; both encoders stay frozen.

    Most images are masked crops around the creature, like a user's masked reference.
    """
    torch.manual_seed(seed + 40)
    heads = ClipHeads(clip.width, WIDTH)
    sharpness = nn.ParameterDict({"log_scale": torch.tensor(10.0).log()})  # CLIP's learned temperature, used in training only

    def pairs(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        who, where = choose(generator, count)
        images, masks = render(who, where)
        with torch.no_grad():
            tokens = clip(degrade(references(images, masks, generator), generator))
        embeds = heads.images(tokens[:, 0])
        texts = encode_texts(model, heads.text, captions(who, where, generator))
        return F.normalize(embeds, dim=-1), F.normalize(texts, dim=-1)

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        return contrastive_loss(*pairs(generator, schedule.batch), temperature=(-sharpness["log_scale"]).exp())

    def check() -> dict[str, float]:
        images, texts = pairs(stage_generator(1234, "held out captions", 0), 256)
        return {"retrieval": ((images @ texts.T).argmax(1) == torch.arange(256)).float().mean().item()}

    train("clip_space", {"heads": heads, "sharpness": sharpness}, loss_of, schedule, folder, seed, check)
    return heads
