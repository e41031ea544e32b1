"""Builds a `DiffusersModel` from a diffusers pipeline or its parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .diffusers_adapter import DiffusersModel
from .noise_schedule import NoiseSchedule


class PipelineTokenizer:
    """A CLIPTokenizer as `diffusers_adapter.Tokenizer`."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.start, self.end = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.pad, self.length = tokenizer.pad_token_id, tokenizer.model_max_length

    @property
    def vocabulary(self) -> dict[str, int]:
        return self.tokenizer.get_vocab()

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids


class PipelineCoder:
    """An AutoencoderKL as `diffusers_adapter.ImageCoder`. Encodes to the posterior's mode, times the scaling factor."""

    def __init__(self, vae: Any):
        self.vae = vae

    def encode(self, images: Tensor) -> Tensor:
        pixels = images.movedim(-1, 1).to(self.vae.dtype) * 2 - 1
        return self.vae.encode(pixels).latent_dist.mode() * self.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        pixels = self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample
        return (pixels.movedim(1, -1) * 0.5 + 0.5).clamp(0, 1)


def model_of(pipeline: Any, name: str = "Stable Diffusion 1.5", family: str = "") -> DiffusersModel:
    """A `DiffusersModel` that shares the networks of a StableDiffusionPipeline and freezes them.

    Args:
        family: the ModelSpec name of the model's family, stored in files made for it.
    Raises:
        UserError: the pipeline is of another family (two text encoders, inpainting, another prediction than epsilon or v).
    """
    unet, scheduler = pipeline.unet, pipeline.scheduler
    if getattr(pipeline, "text_encoder_2", None) is not None or unet.config.in_channels != pipeline.vae.config.latent_channels:
        raise UserError(
            f"expected a Stable Diffusion 1.5 pipeline, found {type(pipeline).__name__} with {unet.config.in_channels} input channels; "
            "load a plain SD1.5 checkpoint"
        )
    if scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
        raise UserError(f"expected a model that predicts epsilon or v, found {scheduler.config.prediction_type!r}; load a plain checkpoint")
    schedule = NoiseSchedule(torch.as_tensor(scheduler.alphas_cumprod).float(), scheduler.config.prediction_type)
    return model_of_parts(name, unet, pipeline.text_encoder, pipeline.tokenizer, pipeline.vae, schedule, family)


def model_of_parts(
    name: str, unet: Any, text_encoder: Any, tokenizer: Any, vae: Any, schedule: NoiseSchedule, family: str = ""
) -> DiffusersModel:
    """A `DiffusersModel` of a UNet2DConditionModel, a CLIPTextModel, a CLIPTokenizer and an AutoencoderKL, all frozen."""
    for part in (unet, text_encoder, vae):
        part.requires_grad_(False).eval()
    size = unet.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1)
    return DiffusersModel(name, unet, text_encoder, PipelineTokenizer(tokenizer), PipelineCoder(vae), schedule, size, family)
