"""The miniature's text-to-image model: Stable Diffusion's blocks at small sizes."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.miniature.nets import FACTOR, LATENT_CHANNELS
from hybridbooth_core.miniature.vocabulary import LENGTH, MiniatureTokenizer
from hybridbooth_core.miniature.world_model import LATENT_SHAPE, UNET_CONFIG, WIDTH, CaptionEncoder, new_unet

pytest.importorskip("diffusers")
pytest.importorskip("transformers")


def test_sizes_are_consistent(world):
    assert LATENT_SHAPE == (LATENT_CHANNELS, 64 // FACTOR, 64 // FACTOR) == (16, 8, 8)
    assert world.embedding_width == WIDTH == 96 and world.image_size == 64
    assert world.encode_image(torch.rand(1, 64, 64, 3)).shape[1:] == LATENT_SHAPE
    assert world.token_table().shape == (MiniatureTokenizer.rows, WIDTH)
    assert world.encode_prompts([["a cat"]]).context.shape == (1, LENGTH, WIDTH)
    assert world.schedule.prediction == "v_prediction" and len(world.schedule) == 1000


def test_channels_fit_stable_diffusions_group_norm_and_heads():
    assert all(channels % 32 == 0 and channels % UNET_CONFIG["attention_head_dim"] == 0 for channels in UNET_CONFIG["block_out_channels"])
    heads = {m.heads for name, m in new_unet().named_modules() if name.endswith(("attn1", "attn2"))}
    assert heads == {4}


def test_the_denoiser_reads_its_context(world):
    noisy, t = torch.randn(1, *LATENT_SHAPE), torch.tensor([500])
    with torch.no_grad():
        contexts = [world.encode_prompts([[text]]).context for text in ("a photo of a cat", "a sketch of a fish at night")]
        one, other = (world.predict_noise(noisy, t, context) for context in contexts)
    assert not torch.allclose(one, other, atol=1e-4)


def test_captions_have_distinct_unit_embeddings():
    with torch.no_grad():
        encoder = CaptionEncoder().eval()
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        captions = ["a photo of a cat", "a photo of a fish", "", "a photo of a cat"]
        vectors = encoder(captions)
        assert vectors.shape == (4, 96)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
        torch.testing.assert_close(vectors[0], vectors[3])
        assert (vectors[0] - vectors[1]).norm() > 0.01 and (vectors[0] - vectors[2]).norm() > 0.01
        torch.testing.assert_close(encoder(captions[1:2]), vectors[1:2], atol=1e-5, rtol=1e-4)
