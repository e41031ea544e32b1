"""The miniature world as ComfyUI's MODEL, CLIP and VAE, so that stock nodes work with it."""
# pyright: reportMissingImports=false

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.taesd.taesd
import folder_paths
import torch
from einops import rearrange
from torch import Tensor, nn

from ...hybridbooth_core.miniature.bundle import WEIGHTS, read_autoencoder, read_base
from ...hybridbooth_core.miniature.nets import LATENT_CHANNELS, Autoencoder
from ...hybridbooth_core.miniature.render import SIZE, render
from ...hybridbooth_core.miniature.vocabulary import CLIP_END, CLIP_ROWS, LENGTH, MiniatureTokenizer, clip_rows
from ...hybridbooth_core.miniature.world import creatures, random_scenes
from ...hybridbooth_core.miniature.world_model import TEXT_CONFIG, UNET_CONFIG, WIDTH
from ...hybridbooth_core.models.ldm_layout import to_ldm_layout

log = logging.getLogger("hybridbooth")


def load_miniature_world(folder: Path = WEIGHTS) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE) from the weights in `folder`; UserError if they are missing or do not fit."""
    tensors = read_base(folder)
    unet = {key.removeprefix("unet."): tensor for key, tensor in tensors.items() if key.startswith("unet.")}
    text = {key: tensor for key, tensor in tensors.items() if key.startswith("text_model.")}
    autoencoder = read_autoencoder(folder)
    return _model(unet, autoencoder), _clip(text), _vae(autoencoder)


class MiniatureWorld(comfy.supported_models.SD15):
    """Stable Diffusion 1.5's architecture and noise schedule at the miniature's sizes, with v-prediction."""

    image_size = SIZE
    unet_extra_config = {"num_heads": UNET_CONFIG["attention_head_dim"], "num_head_channels": -1}  # noqa: RUF012  (as ComfyUI defines it)

    def __init__(self):
        channels, layers = UNET_CONFIG["block_out_channels"], UNET_CONFIG["layers_per_block"]
        super().__init__(
            {
                "image_size": UNET_CONFIG["sample_size"],
                "in_channels": LATENT_CHANNELS,
                "out_channels": LATENT_CHANNELS,
                "model_channels": channels[0],
                "channel_mult": [c // channels[0] for c in channels],
                "num_res_blocks": [layers] * len(channels),
                "transformer_depth": [1] * (layers * len(channels)),
                "transformer_depth_middle": 1,
                "transformer_depth_output": [1] * ((layers + 1) * len(channels)),
                "context_dim": WIDTH,
                "use_spatial_transformer": True,
                "use_linear_in_transformer": False,
                "use_temporal_attention": False,
                "adm_in_channels": None,
                "legacy": False,
            }
        )

    def model_type(self, state_dict: Any, prefix: str = "") -> Any:
        return comfy.model_base.ModelType.V_PREDICTION

    def inpaint_model(self) -> bool:
        return False  # ComfyUI takes an SD1.5 model with more than 4 channels for an inpainting model


class MiniatureLatents(comfy.latent_formats.LatentFormat):
    """16 latent channels of unit standard deviation, with `latent_rgb_factors` for live previews."""

    latent_channels = LATENT_CHANNELS

    def __init__(self, autoencoder: Autoencoder):
        """Fits the RGB factors by least squares on a few rendered images."""
        with torch.no_grad():
            images, _ = render(creatures(torch.arange(64)), random_scenes(64, torch.Generator().manual_seed(0)))
            cells = rearrange(autoencoder.encode(images), "b c h w -> (b h w) c")
            colours = rearrange(nn.functional.avg_pool2d(images.movedim(-1, 1) * 2 - 1, 8), "b c h w -> (b h w) c")
            with_bias = torch.cat([cells, torch.ones(len(cells), 1)], 1)
            fit = torch.linalg.lstsq(with_bias, colours).solution
        self.latent_rgb_factors, self.latent_rgb_factors_bias = fit[:-1].tolist(), fit[-1].tolist()


def _model(unet: dict[str, Tensor], autoencoder: Autoencoder) -> Any:
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    config = MiniatureWorld()
    config.latent_format = MiniatureLatents(autoencoder)
    size = sum(tensor.numel() for tensor in unet.values())
    dtype = comfy.model_management.unet_dtype(model_params=size, supported_dtypes=config.supported_inference_dtypes)
    compute = comfy.model_management.unet_manual_cast(dtype, device, config.supported_inference_dtypes)
    config.set_inference_dtype(dtype, compute)
    model = config.get_model({}, "", device=offload)
    model.diffusion_model.load_state_dict({key: tensor.to(dtype) for key, tensor in to_ldm_layout(unet).items()})
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


class _WordTokenizer(comfy.sd1_clip.SDTokenizer):
    """CLIP's tokenizer at the miniature's context length. Warns about unknown words, whose embeddings are zero."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None):
        super().__init__(
            max_length=LENGTH,
            embedding_directory=embedding_directory,
            embedding_size=WIDTH,
            tokenizer_data=tokenizer_data or {},
        )
        self.known = frozenset(clip_rows())
        self.vocabulary = MiniatureTokenizer().vocabulary

    def unknown_words(self, ids: list[int]) -> list[str]:
        """The words of `ids` that the miniature's vocabulary lacks."""
        return [self.inv_vocab[i].replace("</w>", "") for i in dict.fromkeys(ids) if i not in self.known]

    def tokenize_with_weights(self, text: str, *args: Any, **kwargs: Any) -> Any:
        batches = super().tokenize_with_weights(text, *args, **kwargs)
        unknown = self.unknown_words([pair[0] for batch in batches for pair in batch if isinstance(pair[0], int)])
        if unknown:
            log.warning("the miniature world does not know %s; see Load Miniature World's help for its words", ", ".join(unknown))
        return batches


class _Tokenizer(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None):
        super().__init__(embedding_directory=embedding_directory, tokenizer_data=tokenizer_data or {}, tokenizer=_WordTokenizer)


def _clip(text: dict[str, Tensor]) -> Any:
    """ComfyUI's CLIP with the full table of 49408 tokens; rows that the miniature lacks are zero."""
    table = torch.zeros(CLIP_ROWS, WIDTH)
    table[clip_rows()] = text["text_model.embeddings.token_embedding.weight"]
    state = text | {"text_model.embeddings.token_embedding.weight": table, "text_projection.weight": torch.eye(WIDTH)}
    sizes = {key: TEXT_CONFIG[key] for key in ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads",
                                               "max_position_embeddings", "hidden_act")}  # fmt: skip
    classic = {"disable_dynamic": True} if "disable_dynamic" in inspect.signature(comfy.sd.CLIP.__init__).parameters else {}
    clip = comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(_Tokenizer, comfy.sd1_clip.SD1ClipModel),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        parameters=sum(tensor.numel() for tensor in state.values()),
        model_options={"clip_l_model_config": {**sizes, "eos_token_id": CLIP_END}},
        **classic,
    )
    clip.cond_stage_model.clip_l.transformer.load_state_dict(state)
    return clip


class _FirstStage(nn.Module):
    """The autoencoder with the interface of ComfyUI's VAE networks: channels first, images in 0..1."""

    image_size = SIZE

    def __init__(self, autoencoder: Autoencoder):
        super().__init__()
        self.autoencoder = autoencoder

    def encode(self, pixels: Tensor) -> Tensor:
        return self.autoencoder.encode(rearrange(pixels, "b c h w -> b h w c"))

    def decode(self, latents: Tensor) -> Tensor:
        return rearrange(self.autoencoder.decode(latents), "b h w c -> b c h w")


def _vae(autoencoder: Autoencoder) -> Any:
    """ComfyUI's VAE with the miniature's autoencoder.

    ComfyUI builds a VAE from a state dict and accepts no network, so build the smallest VAE with this many channels and replace its
    network.
    """
    vae = comfy.sd.VAE(sd=comfy.taesd.taesd.TAESD(latent_channels=LATENT_CHANNELS).state_dict(), dtype=torch.float32)
    vae.first_stage_model = _FirstStage(autoencoder)
    vae.patcher = comfy.model_patcher.ModelPatcher(
        vae.first_stage_model, load_device=vae.device, offload_device=comfy.model_management.vae_offload_device()
    )
    vae.process_input = vae.process_output = lambda images: images
    vae.memory_used_encode = lambda shape, dtype: 100 * shape[2] * shape[3] * comfy.model_management.dtype_size(dtype)
    vae.memory_used_decode = lambda shape, dtype: 100 * 64 * shape[2] * shape[3] * comfy.model_management.dtype_size(dtype)
    vae.size = None
    vae.model_size()
    return vae
