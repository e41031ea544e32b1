"""The miniature's text-to-image model: small versions of diffusers' UNet and transformers' CLIP text encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.diffusers_adapter import DiffusersModel
from ..models.noise_schedule import NoiseSchedule
from .nets import FACTOR, LATENT_CHANNELS, Autoencoder
from .render import SIZE
from .vocabulary import LENGTH, MiniatureTokenizer

FAMILY = "miniature"
WIDTH = 96  # of a token embedding
LATENT_SHAPE = (LATENT_CHANNELS, SIZE // FACTOR, SIZE // FACTOR)

UNET_CONFIG = {
    "sample_size": SIZE // FACTOR,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (64, 128),
    "layers_per_block": 1,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,  # diffusers' name for the number of heads
}
TEXT_CONFIG = {
    "vocab_size": MiniatureTokenizer.rows,
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
    "hidden_act": "quick_gelu",
    "bos_token_id": MiniatureTokenizer.start,
    "eos_token_id": MiniatureTokenizer.end,
    "pad_token_id": MiniatureTokenizer.pad,
}


def new_unet() -> nn.Module:
    """An untrained denoiser with Stable Diffusion 1.5's blocks: 64 and 128 channels, one layer per level, attention on both levels."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel(**UNET_CONFIG)


def new_text_encoder() -> nn.Module:
    """An untrained CLIP text encoder with two layers."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**TEXT_CONFIG))


class CaptionEncoder(nn.Module):
    """The CLIP-like encoder's text side: unit embeddings of captions in the space of `ImageEncoder.embed`."""

    def __init__(self, projection: int = 96):
        super().__init__()
        text = new_text_encoder()
        self.text_encoder = getattr(text, "text_model", text)  # transformers 4 wraps the transformer, 5 does not
        self.projection = nn.Linear(WIDTH, projection, bias=False)

    def forward(self, captions: Sequence[str]) -> Tensor:
        """Unit text embeddings [B, projection] of B captions."""
        tokenizer = MiniatureTokenizer()
        rows = [[tokenizer.start, *tokenizer.encode(caption), tokenizer.end] for caption in captions]
        ids = torch.tensor([row + [tokenizer.pad] * (tokenizer.length - len(row)) for row in rows])
        return F.normalize(self.projection(self.text_encoder(ids).pooler_output), dim=-1)


def world_model(unet: nn.Module, text_encoder: nn.Module, autoencoder: Autoencoder) -> DiffusersModel:
    """The parts as one `DiffusersModel`."""
    schedule = NoiseSchedule.scaled_linear("v_prediction")
    return DiffusersModel("the miniature world", unet, text_encoder, MiniatureTokenizer(), autoencoder, schedule, SIZE, FAMILY)
