"""The miniature's own networks: autoencoder, image encoders and judge. The denoiser is diffusers', the text encoder transformers'.

Axes: B images, H W = 64, 3 RGB in 0..1, h w = 8 latent height and width, C channels.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

LATENT_CHANNELS = 16
FACTOR = 8  # pixels per latent cell, as in SD1.5


class ResBlock(nn.Module):
    """Two 3x3 convolutions with GroupNorm and a skip connection, [B, C, h, w] to the same shape."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1, self.conv2 = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return x


class Autoencoder(nn.Module):
    """An autoencoder with 8 pixels per latent cell, whose latents have unit standard deviation.

    A BatchNorm normalises the latent channels by running statistics, so that the latent scale is 1.
    """

    def __init__(self, channels: int = LATENT_CHANNELS):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, 48, 3, padding=1),
            ResBlock(48),
            nn.Conv2d(48, 96, 3, stride=2, padding=1),
            ResBlock(96),
            nn.Conv2d(96, channels, 1),
        )
        self.normalise = nn.BatchNorm2d(channels, affine=False)
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, 128, 3, padding=1),
            ResBlock(128),
            nn.Conv2d(128, 64 * 4, 1),
            nn.PixelShuffle(2),
            ResBlock(64),
            nn.Conv2d(64, 32 * 4, 1),
            nn.PixelShuffle(2),
            ResBlock(32),
            nn.Conv2d(32, 3 * 4, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, H, W, 3] in 0..1 to latents [B, C, h, w] of about unit standard deviation."""
        if images.ndim != 4 or images.shape[-1] != 3 or images.shape[1] % FACTOR or images.shape[2] % FACTOR:
            raise ValueError(f"expected images [B, H, W, 3] with sides divisible by {FACTOR}, found {list(images.shape)}")
        return self.normalise(self.encoder(rearrange(images, "b h w c -> b c h w") * 2 - 1))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, C, h, w] to images [B, H, W, 3], clipped to 0..1."""
        return (rearrange(self.decoder(latents), "b c h w -> b h w c") * 0.5 + 0.5).clamp(0, 1)


class ImageEncoder(nn.Module):
    """A small convolutional encoder with a ViT's outputs: a class token and a token per patch (8 x 8 patches).

    The CLIP-like, DINO-like and held-out encoders share this architecture.
    """

    size = 64  # side of its input images

    def __init__(self, width: int = 96, projection: int = 96):
        super().__init__()
        self.width = width
        self.trunk = _trunk(width)
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, projection)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, H, W, 3] in 0..1 to tokens [B, 1 + N, width]; the first is the mean of the others."""
        images = images.to(self.projection.weight.device)
        patches = rearrange(self.trunk(rearrange(images, "b h w c -> b c h w") * 2 - 1), "b c h w -> b (h w) c")
        return self.norm(torch.cat([patches.mean(1, keepdim=True), patches], 1))

    def embed(self, images: Tensor) -> Tensor:
        """Unit image embeddings [B, projection]."""
        return F.normalize(self.projection(self(images)[:, 0]), dim=-1)


class ClipHeads(nn.Module):
    """Projections into a joint space: `images` of an `ImageEncoder`'s class token, `text` of a text encoder's end-of-text state."""

    def __init__(self, image_width: int = 96, text_width: int = 96, projection: int = 96):
        super().__init__()
        self.images = nn.Linear(image_width, projection, bias=False)
        self.text = nn.Linear(text_width, projection, bias=False)


class BlankEncoder:
    """Replaces an encoder in an ablation: returns zero tokens of the same shape."""

    def __init__(self, encoder: ImageEncoder):
        self.size, self.width = encoder.size, encoder.width

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, H, W, 3] to zeros [B, 1 + N, width], N patches of 8 pixels."""
        return images.new_zeros(len(images), 1 + (images.shape[1] // FACTOR) * (images.shape[2] // FACTOR), self.width)


def _trunk(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.PixelUnshuffle(4),
        nn.Conv2d(48, 48, 3, padding=1),
        ResBlock(48),
        nn.Conv2d(48, width, 3, stride=2, padding=1),
        ResBlock(width),
        ResBlock(width),
    )


class Judge(nn.Module):
    """Predicts every attribute of an image. Used for evaluation only, never by a probe or a refinement."""

    HEADS: ClassVar[dict[str, int]] = {
        "kind": 4, "pattern": 6, "hue": 4, "tone": 4, "frequency": 1, "aspect": 1, "ear": 1, "eye": 1,
        "background": 6, "place": 3, "size": 2, "accessory": 3, "style": 4,
    }  # fmt: skip

    def __init__(self, width: int = 96):
        super().__init__()
        self.trunk = nn.Sequential(_trunk(width), nn.Conv2d(width, 128, 3, stride=2, padding=1), ResBlock(128))
        self.read = nn.Sequential(nn.Flatten(), nn.Linear(128 * 16, 128), nn.SiLU(), nn.Linear(128, sum(self.HEADS.values())))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 64, 64, 3] in 0..1 to outputs by head: logits, (cos, sin) of both hues, or values in 0..1."""
        out = self.read(self.trunk(rearrange(images, "b h w c -> b c h w") * 2 - 1))
        return dict(zip(self.HEADS, out.split(list(self.HEADS.values()), 1), strict=True))
