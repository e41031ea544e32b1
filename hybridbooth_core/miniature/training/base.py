"""Trains the text-to-image model: denoiser and text encoder together, on latents of the frozen autoencoder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...models.diffusers_adapter import DiffusersModel
from ...models.sampling import generate, initial_noise
from ...models.seeds import new_generator
from ...refine.timesteps import stratified_timesteps
from ..captions import describe, mask_latent_weight, random_captions, scene_prompt, with_names
from ..judging import accuracies
from ..nets import Autoencoder, Judge
from ..render import render
from ..world import creatures, random_scenes, split_numbers
from ..world_model import LATENT_SHAPE, new_text_encoder, new_unet, world_model
from .images import choose
from .loop import Schedule, train


def train_base(schedule: Schedule, folder: Path, autoencoder: Autoencoder, judge: Judge, seed: int = 0) -> DiffusersModel:
    """Trains the base model with the v-prediction loss at stratified times, weighted four times higher on the creature."""
    torch.manual_seed(seed + 10)
    unet, text_encoder = new_unet(), new_text_encoder()
    model = world_model(unet, text_encoder, autoencoder)

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        who, where = choose(generator, schedule.batch)
        who, captions = with_names(who, where, random_captions(who, where, generator), generator)
        images, masks = render(who, where)
        with torch.no_grad():
            latents = autoencoder.encode(images)
        noise = torch.randn(latents.shape, generator=generator)
        t = stratified_timesteps(len(latents), 0.0, 1.0, len(model.schedule), generator)
        context = model.encode_prompts(captions).context
        output = model.network_output(model.schedule.add_noise(latents, noise, t), t, context)
        weight = mask_latent_weight(masks, LATENT_SHAPE[1])
        return ((output - model.schedule.velocity(latents, noise, t)) ** 2 * weight).mean() / weight.mean()

    def check() -> dict[str, float]:
        who = creatures(split_numbers("tune", 96))
        where = random_scenes(len(who), new_generator(5))
        prompts = [scene_prompt(where, row, [describe(who, row)]) for row in range(len(who))]
        images = generate(model, prompts, initial_noise(len(who), LATENT_SHAPE, 7))
        right = accuracies(judge, images, who, where)
        return {name: value.mean().item() for name, value in right.items()}

    train("base", {"unet": unet, "text_encoder": text_encoder}, loss_of, schedule, folder, seed, check)
    return model
