"""Trains the probe's learned optimizer: it reads the gradient of one photo, and its loss is that of other images of the creature.

Axes: B creatures, k samples of a gradient, V other views of each creature, n token embeddings, d their width, C h w latents.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ...encoders.features import FeatureEncoder, square_crops
from ...models.adapter import Prompt
from ...models.diffusers_adapter import DiffusersModel, ImageCoder
from ...probe.probe import Features, Probe
from ...refine.captions import TEMPLATES
from ...refine.losses import denoising_loss, subject_weight
from ...refine.personalize import personalize
from ...refine.refine import RefineConfig
from ...refine.timesteps import antithetic_noise, stratified_timesteps
from ..captions import mask_latent_weight, scene_prompt
from ..evaluate import EVALUATION_SCENES, class_nouns, evaluate, reference_of
from ..nets import Judge
from ..render import SIZE, render
from ..world import Scenes, creatures, split_numbers
from ..world_model import LATENT_SHAPE
from .images import choose
from .loop import Schedule, train
from .probe import TIMES, class_embeddings

HIDDEN = 512
UNROLLED = 3  # consecutive updates, each with a loss
VIEWS = 2
PHOTOS = 0.7  # fraction of references in the style "photo"


def with_learned_optimizer(probe: Probe, hidden: int = HIDDEN) -> Probe:
    """A copy of the probe with an untrained learned optimizer."""
    grown = Probe(replace(probe.config, learned_optimizer=hidden))
    grown.load_state_dict(probe.state_dict(), strict=False)
    return grown.eval()


def photo_gradient(model: DiffusersModel, embeddings: Tensor, latents: Tensor, weight: Tensor, generator: torch.Generator) -> Tensor:
    """The gradient [B, n, d] of `refine.task.Task`'s loss in the token embeddings [B, n, d], for B creatures at once.

    Args:
        latents: [B, C, h, w] of one photo per creature. weight: [B, 1, h, w], loss weights.
    """
    config = RefineConfig()
    k = config.batch
    t = torch.cat([stratified_timesteps(k, *config.times, len(model.schedule), generator) for _ in embeddings])
    noise = torch.cat([antithetic_noise(k, tuple(latents.shape[1:]), generator) for _ in embeddings])
    leaf = embeddings.detach().requires_grad_(True)
    prompts: list[Prompt] = [[*template, row] for row in leaf for template in TEMPLATES]
    context = model.encode_prompts(prompts).context  # sample i of a creature uses template i modulo their number, as in Task
    pick = torch.arange(len(embeddings) * k)
    context = context[pick // k * len(TEMPLATES) + pick % k % len(TEMPLATES)]
    noisy = model.schedule.add_noise(latents[pick // k], noise, t)
    losses = denoising_loss(model.predict_noise(noisy, t, context), noise, weight[pick // k] * model.schedule.loss_weight(t))
    (gradient,) = torch.autograd.grad(losses.sum() / k, leaf)
    return gradient


def train_learned_optimizer(
    schedule: Schedule,
    folder: Path,
    model: DiffusersModel,
    autoencoder: ImageCoder,
    probe: Probe,
    clip: FeatureEncoder,
    dino: FeatureEncoder,
    judge: Judge,
    seed: int = 0,
) -> Probe:
    """Trains a learned optimizer for a probe, which stays frozen; returns a copy of the probe with it.

    The loss of each update is the probe's training loss of `VIEWS` images of other scenes with their prompts. No gradient flows between
    updates or through the photo's gradient, which avoids second derivatives.
    """
    torch.manual_seed(seed + 30)
    probe = with_learned_optimizer(probe).requires_grad_(False)
    assert probe.learned_optimizer is not None
    probe.learned_optimizer.requires_grad_(True)
    nouns = class_embeddings(model)

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        who, where = choose(generator, schedule.batch, views=1 + VIEWS)
        as_photo = torch.rand(len(who), generator=generator) < PHOTOS
        as_photo &= torch.arange(len(who)) % (1 + VIEWS) == 0
        where = Scenes(**{**vars(where), "style": where.style.masked_fill(as_photo, 0)})
        images, masks = render(who, where)
        first = torch.arange(0, len(who), 1 + VIEWS)
        others = torch.cat([first + view for view in range(1, 1 + VIEWS)])  # all first views, then all second views
        with torch.no_grad():
            crops = square_crops(images[first], masks[first], SIZE)
            embeddings = probe(Features(clip(crops), dino(crops), autoencoder.encode(crops)), nouns[who.kind[first]])
            latents = autoencoder.encode(images)
        photo_weight = subject_weight(masks[first], latents[first], RefineConfig().background)
        weight = mask_latent_weight(masks[others], LATENT_SHAPE[1], inside=8.0)
        noise = torch.randn(latents[others].shape, generator=generator)
        t = stratified_timesteps(len(others), *TIMES, len(model.schedule), generator)
        noisy = model.schedule.add_noise(latents[others], noise, t)
        target = model.schedule.velocity(latents[others], noise, t)
        texts = [scene_prompt(where, row, [""], keep=0.9, generator=generator) for row in others.tolist()]
        total = torch.zeros(())
        for _ in range(UNROLLED):
            gradient = photo_gradient(model, embeddings, latents[first], photo_weight, generator)
            embeddings = embeddings.detach() + probe.step(embeddings.detach(), gradient)
            prompts = [[before, embeddings[row % len(embeddings)], after] for row, (before, _, after) in enumerate(texts)]
            output = model.network_output(noisy, t, model.encode_prompts(prompts).context)
            total = total + ((output - target) ** 2 * weight).mean() / weight.mean()
        return total / UNROLLED

    def check() -> dict[str, float]:
        who = creatures(split_numbers("tune", 16))
        refs = [reference_of(who, row) for row in range(len(who))]
        made = [_personalized(row) for row in zip(refs, class_nouns(who), strict=True)]
        initial, refined = (evaluate(model, judge, who, embeddings, EVALUATION_SCENES[:4]) for embeddings in zip(*made, strict=True))
        gain = (refined.identity - initial.identity).mean().item()
        return {"identity": refined.identity.mean().item(), "prompt": refined.prompt.mean().item(), "gain": gain}

    def _personalized(row) -> tuple[Tensor, Tensor]:
        ref, noun = row
        crops = square_crops(ref.images, ref.masks, SIZE)
        features = Features(clip(crops), dino(crops), autoencoder.encode(crops))
        made = personalize(model, probe, ref, features, noun, RefineConfig(mode="learned"))
        return made.start, made.subject.embeddings

    train("stepper", {"stepper": probe.learned_optimizer}, loss_of, schedule, folder, seed, check)
    return probe
