"""What is measured of images and of prompts, by networks that no method trains against.

Axes: G sampling seeds, S scenes, B images, H W = 64, C channels of a layer, n columns of a subject.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from hybridbooth_core.encoders.features import Reference
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.miniature.captions import scene_prompt
from hybridbooth_core.miniature.evaluate import class_nouns, score
from hybridbooth_core.miniature.nets import ImageEncoder
from hybridbooth_core.miniature.render import render
from hybridbooth_core.miniature.world import Creatures, Scenes, repeat
from hybridbooth_core.models.adapter import AttentionCapture, DiffusionModel, Piece, Prompt
from hybridbooth_core.models.attention import mask_at
from hybridbooth_core.models.sampling import initial_noise

LEAKAGE_TIME = 500  # of 1000: the middle of the schedule, where layout is decided


@torch.no_grad()
def image_scores(world: Miniature, images: Tensor, who: Creatures, where: Scenes, ref: Reference) -> dict[str, Tensor]:
    """Scores [G, S] of images [G, S, H, W, 3] of one creature in S scenes.

    `identity`, `prompt`, `kind`: the judge's (`miniature.evaluate.Scores`). `dino_i`, `clip_i`: cosine of a held-out encoder's embeddings
    of the image and of a true render of the creature in the same scene; `dino_ref`: to the one reference image. `clip_t`: cosine of
    the held-out CLIP pair's embeddings of the image and of its prompt with the class noun in the subject's place.
    """
    seeds, scenes = images.shape[:2]
    if len(who) != 1 or len(where) != scenes:
        raise ValueError(f"expected one creature in {scenes} scenes, found {len(who)} in {len(where)}")
    flat, everywhere = images.flatten(0, 1), where[torch.arange(scenes).repeat(seeds)]
    judged = score(world.judge, flat, repeat(who, len(flat)), everywhere, (seeds, scenes))
    truth, _ = render(repeat(who, scenes), where)
    drawn = world.held_out.embed(flat).view(seeds, scenes, -1)
    drawn_clip = world.held_out_clip.embed(flat).view(seeds, scenes, -1)
    noun = class_nouns(who)[0]
    said = world.held_out_text([_text(scene_prompt(where, row, [noun])) for row in range(scenes)])
    return {
        "identity": judged.identity,
        "prompt": judged.prompt,
        "kind": judged.kind,
        "dino_i": (drawn * world.held_out.embed(truth)).sum(-1),
        "dino_ref": (drawn * world.held_out.embed(ref.images)[0]).sum(-1),
        "clip_i": (drawn_clip * world.held_out_clip.embed(truth)).sum(-1),
        "clip_t": (drawn_clip * said).sum(-1),
    }


def _text(prompt: Prompt) -> str:
    return " ".join(piece for piece in prompt if isinstance(piece, str) and piece)


def perceptual_distance(encoder: ImageEncoder, left: Tensor, right: Tensor) -> Tensor:
    """LPIPS-like distance [B] of images [B, H, W, 3] in 0..1 (Zhang et al. 2018, eq. 1, every channel's weight 1).

    At each layer with a receptive field, feature vectors are scaled to unit length; their squared differences are summed over channels,
    averaged over cells and summed over layers. 0 for equal images.
    """
    total = torch.zeros(len(left))
    x, y = (images.movedim(-1, 1) * 2 - 1 for images in (left, right))
    for layer in encoder.trunk:
        x, y = layer(x), layer(y)
        if not isinstance(layer, torch.nn.PixelUnshuffle):  # which only rearranges pixels
            total = total + (F.normalize(x, dim=1, eps=1e-10) - F.normalize(y, dim=1, eps=1e-10)).square().sum(1).mean((1, 2))
    return total


@torch.no_grad()
def diversity(encoder: ImageEncoder, images: Tensor) -> Tensor:
    """The mean distance [S] between images [G, S, H, W, 3] that differ in nothing but their sampling seed; G is at least 2."""
    if len(images) < 2:
        raise ValueError(f"expected images of at least two sampling seeds, found {len(images)}")
    pairs = combinations(range(len(images)), 2)
    return torch.stack([perceptual_distance(encoder, images[a], images[b]) for a, b in pairs]).mean(0)


def subject_pieces(model: DiffusionModel, pieces: Prompt) -> list[Piece]:
    """Everything that stands for the subject without text, so that all of it has columns: text gets the rows of its tokens."""
    return [model.token_embeddings(piece) if isinstance(piece, str) else piece for piece in pieces]


@torch.no_grad()
def leakage(model: DiffusionModel, pieces: Prompt, who: Creatures, where: Scenes, seed: int = 0) -> Tensor:
    """The share [S] of the subject's attention that lies off the creature, on true renders at the middle of the schedule.

    1 would be attention to the background alone; attention spread evenly gives the background's share of the image.
    """
    images, masks = render(repeat(who, len(where)), where)
    latents = model.encode_image(images)
    noise = initial_noise(len(latents), tuple(latents.shape[1:]), seed).to(latents)
    t = torch.full((len(latents),), LEAKAGE_TIME, device=latents.device)
    encoded = model.encode_prompts([scene_prompt(where, row, subject_pieces(model, pieces)) for row in range(len(where))])
    capture = AttentionCapture(encoded.columns)
    model.predict_noise(model.schedule.add_noise(latents, noise, t), t, encoded.context, capture)
    return attention_off_mask(capture.maps, masks)


def attention_off_mask(maps: list[Tensor], masks: Tensor) -> Tensor:
    """The share [B] of attention off masks [B, H, W], from maps [B, heads, N, n]; every layer counts alike."""
    shares = []
    for layer in maps:
        cells = layer.mean((1, 3))  # [B, N]
        outside = 1 - mask_at(masks, cells.shape[1]).to(cells)
        shares.append((cells * outside).sum(1) / cells.sum(1))
    return torch.stack(shares).mean(0)
