"""Trains the autoencoder, the judge and the image encoders, independently of one another."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.seeds import stage_generator
from ..captions import describe, scene_prompt
from ..judging import accuracies, identity_score, judge_loss, targets
from ..nets import Autoencoder, ImageEncoder, Judge
from ..world_model import CaptionEncoder
from .images import Batch, degrade, draw_batch
from .loop import Schedule, train


def _held_out(count: int = 256) -> Batch:
    return draw_batch(stage_generator(1234, "held out", 0), count)


def _slopes(images: Tensor) -> Tensor:
    """Image gradients [2, B, H-1, W-1, 3]: differences to the lower and right neighbours."""
    here = images[:, :-1, :-1]
    return torch.stack([images[:, 1:, :-1] - here, images[:, :-1, 1:] - here])


def train_autoencoder(schedule: Schedule, folder: Path, seed: int = 0) -> Autoencoder:
    """Trains with a Charbonnier loss plus L1 on image gradients, both weighted four times higher on the creature, and noisy latents."""
    torch.manual_seed(seed)
    net, held = Autoencoder(), _held_out()

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        batch = draw_batch(generator, schedule.batch)
        latents = net.encode(batch.images)
        noisy = latents + 0.1 * torch.randn(latents.shape, generator=generator)
        decoded = net.decoder(noisy).movedim(1, -1) * 0.5 + 0.5  # not clipped: a clipped pixel has no gradient
        weight = 1 + 3 * batch.masks.unsqueeze(-1)
        pixels = (((decoded - batch.images) ** 2 + 1e-4).sqrt() * weight).mean()
        edges = ((_slopes(decoded) - _slopes(batch.images)).abs() * weight[:, :-1, :-1]).mean()
        return pixels + 0.5 * edges

    def check() -> dict[str, float]:
        error = ((net.decode(net.encode(held.images)) - held.images) ** 2).mean()
        return {"psnr": (-10 * error.log10()).item()}

    train("autoencoder", {"autoencoder": net}, loss_of, schedule, folder, seed, check)
    return net


def train_judge(schedule: Schedule, folder: Path, seed: int = 0) -> Judge:
    """Trains on all attributes of degraded images."""
    torch.manual_seed(seed + 1)
    net, held = Judge(), _held_out(512)

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        batch = draw_batch(generator, schedule.batch)
        return judge_loss(net(degrade(batch.images, generator)), targets(batch.creatures, batch.scenes))

    def check() -> dict[str, float]:
        right = accuracies(net, held.images, held.creatures, held.scenes)
        other = identity_score(net, held.images, held.images.roll(1, 0)).mean().item()
        return {k: v.mean().item() for k, v in right.items()} | {"other_identity": other}

    train("judge", {"judge": net}, loss_of, schedule, folder, seed, check)
    return net


def contrastive_loss(left: Tensor, right: Tensor, temperature: float | Tensor = 0.1) -> Tensor:
    """CLIP's symmetric InfoNCE loss (van den Oord et al. 2018) of unit vectors [B, D] whose rows are pairs."""
    logits = left @ right.T / temperature
    same = torch.arange(len(left))
    return (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2


def train_identity_encoder(stage: str, schedule: Schedule, folder: Path, seed: int = 0) -> ImageEncoder:
    """Trains the DINO-like encoder (or, from another seed, the held-out one): self-supervised on two scenes of each creature."""
    torch.manual_seed(seed + (2 if stage == "dino" else 3))
    net = ImageEncoder()
    held = draw_batch(stage_generator(1234, "held out pairs", 0), 256, views=2)

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        batch = draw_batch(generator, schedule.batch, views=2)
        vectors = net.embed(degrade(batch.images, generator))
        return contrastive_loss(vectors[0::2], vectors[1::2])

    def check() -> dict[str, float]:
        vectors = net.embed(held.images)
        nearest = (vectors[0::2] @ vectors[1::2].T).argmax(1)
        return {"retrieval": (nearest == torch.arange(len(nearest))).float().mean().item()}

    train(stage, {stage: net}, loss_of, schedule, folder, seed, check)
    return net


def train_clip_encoder(stage: str, schedule: Schedule, folder: Path, seed: int = 0) -> tuple[ImageEncoder, CaptionEncoder]:
    """Trains the CLIP-like encoder (or, from another seed, the held-out one) contrastively on captions (Radford et al. 2021)."""
    torch.manual_seed(seed + (4 if stage == "clip" else 5))
    image, text = ImageEncoder(), CaptionEncoder()

    def pairs(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        batch = draw_batch(generator, count)
        who, where = batch.creatures, batch.scenes
        captions = [scene_prompt(where, row, [describe(who, row, 0.8, generator)], 0.8, generator) for row in range(count)]
        return image.embed(degrade(batch.images, generator)), text([" ".join(str(piece) for piece in caption) for caption in captions])

    def check() -> dict[str, float]:
        images, captions = pairs(stage_generator(1234, "held out captions", 0), 256)
        return {"retrieval": ((images @ captions.T).argmax(1) == torch.arange(256)).float().mean().item()}

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        return contrastive_loss(*pairs(generator, schedule.batch))

    train(stage, {stage: image, f"{stage}_text": text}, loss_of, schedule, folder, seed, check)
    return image, text
