"""A denoiser of Stable Diffusion 1.5's true layout at a twentieth of its width, behind the seam, and one image to learn."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from hybridbooth_core.encoders.features import reference
from hybridbooth_core.miniature.vocabulary import MiniatureTokenizer
from hybridbooth_core.models.noise_schedule import NoiseSchedule

CONTEXT = 24  # width of a word


class Pool:
    """A coder without weights: 4 channels, a cell the mean of 8x8 pixels."""

    def encode(self, images):
        small = torch.nn.functional.avg_pool2d(images.movedim(-1, 1), 8) * 2 - 1
        return torch.cat([small, small.mean(1, keepdim=True)], 1)

    def decode(self, latents):
        return torch.nn.functional.interpolate(latents[:, :3] / 2 + 0.5, scale_factor=8).movedim(1, -1).clamp(0, 1)


def stable_diffusion_unet(width: int = 16):
    """The blocks, attentions and names of Stable Diffusion 1.5's denoiser, `width` channels where it has 320."""
    diffusers = pytest.importorskip("diffusers")
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        norm_num_groups=8,
        cross_attention_dim=CONTEXT,
        attention_head_dim=8,
    )


@pytest.fixture(scope="session")
def new_model() -> Callable:
    """A function: what the network puts out ("epsilon" or "v_prediction") to a frozen model of random weights, always the same one."""
    pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    from hybridbooth_core.models.diffusers_adapter import DiffusersModel

    def make(prediction: str = "epsilon") -> DiffusersModel:
        with torch.random.fork_rng():
            torch.manual_seed(21)
            config = transformers.CLIPTextConfig(
                vocab_size=MiniatureTokenizer.rows, hidden_size=CONTEXT, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                max_position_embeddings=MiniatureTokenizer.length, bos_token_id=0, eos_token_id=1, pad_token_id=1,
            )  # fmt: skip
            text, unet = transformers.CLIPTextModel(config), stable_diffusion_unet()
            with torch.no_grad():
                for parameter in text.parameters():  # CLIP's own start is so small that words hardly matter
                    parameter.add_(0.1 * torch.randn_like(parameter))
        parts = [part.eval().requires_grad_(False) for part in (unet, text)]
        schedule = NoiseSchedule.scaled_linear(prediction)  # type: ignore[arg-type]
        return DiffusersModel("a small SD1.5", *parts, MiniatureTokenizer(), Pool(), schedule, 64)

    return make


@pytest.fixture(scope="session")
def model(new_model):
    return new_model()


@pytest.fixture(scope="session")
def ref():
    """One image without a mask."""
    return reference(torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(5)))


@pytest.fixture(scope="session")
def look() -> SimpleNamespace:
    """Noisy latents and times to ask a model with."""
    return SimpleNamespace(noisy=torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(6)), t=torch.tensor([700, 150]))


@pytest.fixture(scope="session")
def eps(look) -> Callable:
    """A function: a model and the pieces of a prompt to what it predicts there."""

    @torch.no_grad()
    def predict(model, pieces) -> torch.Tensor:
        context = model.encode_prompts([["a photo of a", *pieces]]).context.expand(2, -1, -1)
        return model.predict_noise(look.noisy, look.t, context)

    return predict
