"""A model of Stable Diffusion 1.5's true layout with random weights, and all that a subject needs beside it.

Weights and images are noise, since only what a step costs is looked at; the autoencoder and the tokenizer are stand-ins of a few lines.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hybridbooth_core.encoders.features import Reference, reference
from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.models.diffusers_adapter import DiffusersModel
from hybridbooth_core.models.noise_schedule import NoiseSchedule
from hybridbooth_core.probe.probe import Features, Probe, ProbeConfig

FACTOR = 8  # pixels of a latent cell
CLASS = "backpack"


@dataclass(frozen=True)
class Sizes:
    """What is measured: SD1.5 by default. `pixels` is the side of an image."""

    pixels: int = 512
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    width: int = 768
    text_layers: int = 12
    tokens: int = 257  # that an image encoder writes, of `feature_width` each
    feature_width: int = 1024


SD15 = Sizes()
QUICK = Sizes(pixels=64, channels=(32, 64, 64, 64), width=64, text_layers=2, tokens=17, feature_width=32)


class WordTokenizer:
    """Any word is one token, computed from its letters."""

    start, end, pad, length = 49406, 49407, 49407, 77
    vocabulary: dict[str, int] = {}  # noqa: RUF012

    def encode(self, text: str) -> list[int]:
        return [sum(ord(letter) * 31**i for i, letter in enumerate(word)) % 40_000 for word in text.split()]


class Shrinker:
    """Images to latents of the right shape, by averaging and a fourth channel."""

    def encode(self, images: Tensor) -> Tensor:
        small = F.avg_pool2d(images.movedim(-1, 1), FACTOR)
        return torch.cat([small, small[:, :1]], 1)

    def decode(self, latents: Tensor) -> Tensor:
        raise NotImplementedError("no image is drawn here")


class GivenPrior(Prior):
    """Class images that are there already."""

    def latents(self, class_noun: str, count: int, on_step: Any = None) -> Tensor:
        side = self.model.image_size // FACTOR
        return torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(3)).expand(count, -1, -1, -1)


@dataclass(frozen=True, eq=False)
class World:
    """The model and one subject of it."""

    sizes: Sizes
    model: DiffusersModel
    ref: Reference
    noun: Tensor
    start: Tensor  # [5, d]

    def prior(self) -> Prior:
        return GivenPrior(self.model)

    def smaller(self, pixels: int) -> World:
        """The same model at another size of images."""
        model = copy.copy(self.model)
        model.image_size = pixels
        return World(replace(self.sizes, pixels=pixels), model, self.ref, self.noun, self.start)

    def probe(self) -> tuple[Probe, Features]:
        """A promptnet probe of the model's own encoder half, untrained, and what it sees."""
        sizes, channels, device = self.sizes, self.sizes.channels, self.model.device
        shape = {"channels": channels[0], "multipliers": [c // channels[0] for c in channels]}
        config = ProbeConfig(
            width=sizes.width, clip="random", clip_width=sizes.feature_width, dino="random", dino_width=sizes.feature_width,
            sizes=shape,
        )  # fmt: skip
        probe = filled(lambda: Probe(config), device, torch.float32)
        clip, dino = (torch.randn(1, sizes.tokens, sizes.feature_width, device=device) for _ in range(2))
        side = sizes.pixels // FACTOR
        return probe, Features(clip, dino, torch.randn(1, 4, side, side, device=device))


def filled(make: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The module that `make` makes, with random weights at the usual spread, frozen; PyTorch's own start would take a minute."""
    with torch.device("meta"):
        module = make()
    module = (module if dtype == torch.float32 else module.to(dtype)).to_empty(device=device).requires_grad_(False).eval()
    for name, tensor in module.named_parameters():
        if tensor.ndim > 1:
            tensor.uniform_(-1, 1).mul_((3 / tensor[0].numel()) ** 0.5)
        else:
            tensor.fill_(1.0 if name.endswith("weight") else 0.0)
    for name, buffer in module.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return module


def new_world(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> World:
    """Everything, seeded."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    groups = 32 if sizes == SD15 else 8
    text = CLIPTextConfig(
        hidden_size=sizes.width, intermediate_size=4 * sizes.width, num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.width // 64, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
    )  # fmt: skip
    unet = filled(
        lambda: UNet2DConditionModel(
            sizes.pixels // FACTOR, block_out_channels=sizes.channels, cross_attention_dim=sizes.width, norm_num_groups=groups
        ),
        device,
        dtype,
    )
    encoder = filled(lambda: CLIPTextModel(text), device, dtype)
    model = DiffusersModel(
        "a model of Stable Diffusion 1.5's layout", unet, encoder, WordTokenizer(), Shrinker(), NoiseSchedule.scaled_linear(), sizes.pixels
    )
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(1, 512, 512)
    mask[:, 96:416, 128:384] = 1
    ref = reference(torch.rand(1, 512, 512, 3, generator=generator), mask)
    noun = model.token_embeddings(CLASS)[0]
    start = torch.randn(5, sizes.width, generator=generator).to(noun)
    return World(sizes, model, ref, noun, start * noun.norm() / start.norm(dim=1, keepdim=True))
