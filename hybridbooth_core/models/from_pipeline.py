"""A Stable Diffusion pipeline of diffusers as a `DiffusersModel`: for scripts and training outside ComfyUI."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .diffusers_adapter import DiffusersModel
from .noise_schedule import NoiseSchedule


class PipelineTokenizer:
    """transformers' CLIPTokenizer behind `diffusers_model.Tokenizer`."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self.start, self.end = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.pad, self.length = tokenizer.pad_token_id, tokenizer.model_max_length

    @property
    def vocabulary(self) -> dict[str, int]:
        return self._tokenizer.get_vocab()

    def encode(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False).input_ids


class PipelineCoder:
    """diffusers' AutoencoderKL behind `diffusers_model.ImageCoder`: the mode of its posterior, times its scaling factor."""

    def __init__(self, vae: Any):
        self._vae = vae

    def encode(self, images: Tensor) -> Tensor:
        pixels = images.movedim(-1, 1).to(self._vae.dtype) * 2 - 1
        return self._vae.encode(pixels).latent_dist.mode() * self._vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        pixels = self._vae.decode(latents.to(self._vae.dtype) / self._vae.config.scaling_factor).sample
        return (pixels.movedim(1, -1) * 0.5 + 0.5).clamp(0, 1)


def model_of(pipeline: Any, name: str = "Stable Diffusion 1.5") -> DiffusersModel:
    """The parts of a StableDiffusionPipeline as one model behind the seam. They are shared with the pipeline, and frozen.

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
    for part in (unet, pipeline.text_encoder, pipeline.vae):
        part.requires_grad_(False).eval()
    schedule = NoiseSchedule(torch.as_tensor(scheduler.alphas_cumprod).float(), scheduler.config.prediction_type)
    size = unet.config.sample_size * 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    tokenizer, coder = PipelineTokenizer(pipeline.tokenizer), PipelineCoder(pipeline.vae)
    return DiffusersModel(name, unet, pipeline.text_encoder, tokenizer, coder, schedule, size)
