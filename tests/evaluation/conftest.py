"""Fixtures: a Stable Diffusion 1.5 of full layout and small width, as a folder of diffusers, and the dataset's few photos."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

DATASET = Path(__file__).parents[1] / "data" / "dreambooth"


@pytest.fixture(scope="session")
def dataset() -> Path:
    """Two subjects with three photos each, and the whole list of classes and prompts."""
    return DATASET


def dataset_words() -> set[str]:
    """Every word of the dataset's prompts."""
    from hybridbooth_core.evaluation.protocol import LIST_FILE, parse_lists

    lists = parse_lists((DATASET / LIST_FILE).read_text())
    texts = [prompt.text(noun) for prompt in (*lists.object_prompts, *lists.live_prompts) for noun in lists.classes.values()]
    return {word.lower() for text in ["photo of", *texts] for word in text.split()}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, write_vocabulary) -> Path:
    """SD1.5's layout (four resolutions, cross-attention on three, 77 tokens, a VAE of factor 8) with 32 channels and random weights."""
    pytest.importorskip("diffusers")
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("model")
    vocabulary = write_vocabulary(folder, dataset_words())
    torch.manual_seed(0)
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, bos_token_id=start, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 32, 32, 32), norm_num_groups=8, layers_per_block=2, cross_attention_dim=32,
        attention_head_dim=8,
    )  # fmt: skip
    with torch.no_grad():
        for part in (unet, vae):  # as they start, all pictures would be nearly one grey
            for parameter in part.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77),
        unet=unet,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "tiny-sd15", safe_serialization=True)
    return folder / "tiny-sd15"


@pytest.fixture(scope="session")
def encoders():
    """The real layouts of DINO ViT-S/16, CLIP ViT-B/32 and LPIPS with random weights; ViT-L/14 is too heavy for a test."""
    pytest.importorskip("timm")
    pytest.importorskip("lpips")
    from hybridbooth_core.evaluation.encoders import CLIP_B32
    from hybridbooth_core.evaluation.untrained import untrained_encoders

    return untrained_encoders((CLIP_B32,))
