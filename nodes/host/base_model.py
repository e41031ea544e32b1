"""Is what a person wired of Stable Diffusion 1.5's family? One sentence says what was found if it is not."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import comfy.model_sampling
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import nn

from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.models.noise_schedule import NoiseSchedule


def check_clip(clip: Any) -> None:
    """UserError unless the CLIP is one CLIP-L text encoder, as Stable Diffusion 1.5 has."""
    if clip is None:
        raise UserError("expected a CLIP, found nothing; the checkpoint holds no text encoder, so load one beside it")
    found = sorted(clip.tokenize(""))
    if found != ["l"] or not hasattr(clip.cond_stage_model, "clip_l"):
        raise UserError(
            f"expected the CLIP of a Stable Diffusion 1.5 model (one text encoder, l), found {type(clip.cond_stage_model).__name__} "
            f"(text encoders {', '.join(found)}); wire the CLIP of a Stable Diffusion 1.5 checkpoint"
        )


def check_model(model: Any, width: int) -> None:
    """UserError unless the MODEL is a denoiser of Stable Diffusion 1.5's family that reads words of `width` and nothing besides."""
    config = model.model.model_config
    name, unet = type(config).__name__, model.model.diffusion_model
    if not isinstance(unet, UNetModel):
        raise UserError(f"expected a MODEL of Stable Diffusion 1.5's family, found {name}; wire a Stable Diffusion 1.5 checkpoint")
    reads = config.unet_config.get("context_dim")
    if reads != width:
        raise UserError(
            f"the MODEL ({name}) reads words of width {reads}, but the CLIP writes words of width {width}; wire MODEL and CLIP of one "
            "Stable Diffusion 1.5 checkpoint"
        )
    if config.unet_config.get("adm_in_channels") is not None:
        raise UserError(f"expected a MODEL that reads words alone, found {name}; wire a Stable Diffusion 1.5 checkpoint")
    channels = model.get_model_object("latent_format").latent_channels
    if unet.in_channels != channels:
        raise UserError(
            f"the MODEL reads {unet.in_channels} channels where an image has {channels}, as inpainting models do; wire the plain "
            "Stable Diffusion 1.5 checkpoint that it was made from"
        )


def check_vae(vae: Any, channels: int) -> None:
    """UserError unless the VAE writes latents of so many channels."""
    if vae is None:
        raise UserError("expected a VAE, found nothing; the checkpoint holds none, so load one beside it")
    if vae.latent_channels != channels:
        raise UserError(
            f"the VAE writes latents of {vae.latent_channels} channels, but the MODEL reads {channels}; wire the VAE that belongs to "
            "the MODEL"
        )


def noise_schedule(model: Any) -> NoiseSchedule:
    """The MODEL's own schedule, as wired (a Model Sampling node before it counts).

    Raises:
        UserError: it does not predict noise or velocity at discrete times.
    """
    sampling = model.get_model_object("model_sampling")
    kinds = comfy.model_sampling
    foreign = (kinds.EDM, kinds.X0)  # both inherit from what they are not
    discrete = isinstance(sampling, kinds.ModelSamplingDiscrete)
    if not discrete or not isinstance(sampling, kinds.EPS) or isinstance(sampling, foreign):
        found = " and ".join(base.__name__ for base in type(sampling).__bases__)
        raise UserError(
            f"expected a MODEL that predicts noise or velocity at discrete times, found {found}; wire a Stable Diffusion 1.5 checkpoint"
        )
    alphas = 1 / (1 + sampling.sigmas.detach().double().cpu() ** 2)
    return NoiseSchedule(alphas.float().clone(), "v_prediction" if isinstance(sampling, kinds.V_PREDICTION) else "epsilon")


def embedding_width(clip: Any) -> int:
    """d of a CLIP's words."""
    return word_table(clip).weight.shape[1]


def word_table(clip: Any) -> nn.Embedding:
    """The host's embedding layer of a CLIP-L."""
    return clip.cond_stage_model.clip_l.transformer.get_input_embeddings()
