"""Checks that a node's MODEL, CLIP and VAE are from a Stable Diffusion 1.5 model."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import comfy.model_sampling
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import nn

from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.models.noise_schedule import NoiseSchedule


def check_clip(clip: Any) -> None:
    """UserError unless the CLIP is a single CLIP-L text encoder, like Stable Diffusion 1.5's."""
    if clip is None:
        raise UserError("expected a CLIP, found nothing; the checkpoint has no text encoder, so load one with Load CLIP")
    found = sorted(clip.tokenize(""))
    if found != ["l"] or not hasattr(clip.cond_stage_model, "clip_l"):
        raise UserError(
            f"expected the CLIP of a Stable Diffusion 1.5 model (one text encoder, l), found {type(clip.cond_stage_model).__name__} "
            f"(text encoders {', '.join(found)}); connect the CLIP of a Stable Diffusion 1.5 checkpoint"
        )


def check_model(model: Any, width: int) -> None:
    """UserError unless the MODEL is a Stable Diffusion 1.5 denoiser whose only condition is a context of `width`."""
    config = model.model.model_config
    name, unet = type(config).__name__, model.model.diffusion_model
    if not isinstance(unet, UNetModel):
        raise UserError(f"expected a Stable Diffusion 1.5 MODEL, found {name}; connect a Stable Diffusion 1.5 checkpoint")
    context_width = config.unet_config.get("context_dim")
    if context_width != width:
        raise UserError(
            f"the MODEL ({name}) reads embeddings of width {context_width}, but the CLIP's have width {width}; connect MODEL and CLIP of "
            "one Stable Diffusion 1.5 checkpoint"
        )
    if config.unet_config.get("adm_in_channels") is not None:
        raise UserError(f"expected a MODEL with text conditioning alone, found {name}; connect a Stable Diffusion 1.5 checkpoint")
    channels = model.get_model_object("latent_format").latent_channels
    if unet.in_channels != channels:
        raise UserError(
            f"expected a MODEL with {channels} input channels, found {unet.in_channels}, as inpainting models have; connect the Stable "
            "Diffusion 1.5 checkpoint that it was made from"
        )


def check_vae(vae: Any, channels: int) -> None:
    """UserError unless the VAE's latents have this number of channels."""
    if vae is None:
        raise UserError("expected a VAE, found nothing; the checkpoint has none, so load one with Load VAE")
    if vae.latent_channels != channels:
        raise UserError(
            f"the VAE's latents have {vae.latent_channels} channels, but the MODEL reads {channels}; connect the MODEL's own VAE"
        )


def noise_schedule(model: Any) -> NoiseSchedule:
    """The MODEL's noise schedule, including the effect of a Model Sampling node.

    Raises:
        UserError: the MODEL does not predict epsilon or v at discrete times.
    """
    sampling = model.get_model_object("model_sampling")
    kinds = comfy.model_sampling
    foreign = (kinds.EDM, kinds.X0)  # subclasses of EPS with other predictions
    discrete = isinstance(sampling, kinds.ModelSamplingDiscrete)
    if not discrete or not isinstance(sampling, kinds.EPS) or isinstance(sampling, foreign):
        found = " and ".join(base.__name__ for base in type(sampling).__bases__)
        raise UserError(
            f"expected a MODEL that predicts epsilon or v at discrete times, found {found}; connect a Stable Diffusion 1.5 checkpoint"
        )
    alphas = 1 / (1 + sampling.sigmas.detach().double().cpu() ** 2)
    return NoiseSchedule(alphas.float().clone(), "v_prediction" if isinstance(sampling, kinds.V_PREDICTION) else "epsilon")


def embedding_width(clip: Any) -> int:
    """d of a CLIP's token embeddings."""
    return token_table(clip).weight.shape[1]


def token_table(clip: Any) -> nn.Embedding:
    """The token embedding layer of a CLIP-L."""
    return clip.cond_stage_model.clip_l.transformer.get_input_embeddings()
