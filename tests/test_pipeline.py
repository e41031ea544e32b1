"""A diffusers pipeline behind the seam, against the pipeline's own functions."""

import json

import pytest
import torch

from hybridbooth_core.errors import UserError
from hybridbooth_core.pipeline import model_of

pytest.importorskip("diffusers")

WORDS = ["a", "photo", "of", "cat", "snow", "on"]


@pytest.fixture
def pipeline(tmp_path):
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = sorted(set("".join(WORDS)))
    merges, tokens = [], [*letters, *(letter + "</w>" for letter in letters)]
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append(" ".join(parts[:2]))
            parts = [parts[0] + parts[1], *parts[2:]]
            tokens.append(parts[0])
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]))
    tokenizer = CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), model_max_length=16)
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=16,
        bos_token_id=vocabulary["<|startoftext|>"], eos_token_id=vocabulary["<|endoftext|>"],
    )  # fmt: skip
    blocks = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    return StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2
        ),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(sample_size=16, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=32, **blocks),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def test_contexts_equal_the_pipelines_own(pipeline):
    model = model_of(pipeline)
    own, _ = pipeline.encode_prompt("a photo of cat on snow", "cpu", 1, False)
    torch.testing.assert_close(model.encode_prompts([["a photo of", "cat on snow"]]).context, own)


def test_subject_words_equal_a_learned_token_of_the_pipeline(pipeline, tmp_path):
    from safetensors.torch import save_file

    model, words = model_of(pipeline), torch.randn(2, 32)
    context = model.encode_prompts([["a photo of", words, "on snow"]]).context
    save_file({"emb_params": words}, tmp_path / "pet.safetensors")
    pipeline.load_textual_inversion(str(tmp_path / "pet.safetensors"), token="<pet>")
    own, _ = pipeline.encode_prompt("a photo of <pet> on snow", "cpu", 1, False)
    torch.testing.assert_close(context, own)


def test_latents_are_scaled_and_come_back_in_range(pipeline):
    model, pictures = model_of(pipeline), torch.rand(1, 32, 32, 3)
    mean = pipeline.vae.encode(pictures.movedim(-1, 1) * 2 - 1).latent_dist.mean
    torch.testing.assert_close(model.encode_image(pictures), mean * 0.18215)
    decoded = model.decode(model.encode_image(pictures))
    assert decoded.shape == pictures.shape
    assert float(decoded.min()) >= 0 and float(decoded.max()) <= 1


def test_schedule_and_size_are_the_pipelines(pipeline):
    model = model_of(pipeline)
    torch.testing.assert_close(model.schedule.alphas_cumprod, pipeline.scheduler.alphas_cumprod)
    assert model.picture_size == 32


def test_an_inpainting_pipeline_is_refused_by_name(pipeline):
    pipeline.unet.register_to_config(in_channels=9)
    with pytest.raises(UserError, match="9 input channels"):
        model_of(pipeline)


def test_the_vocabulary_is_the_tokenizers(pipeline):
    vocabulary = model_of(pipeline).vocabulary
    assert vocabulary["cat</w>"] == pipeline.tokenizer.encode("cat")[1] and len(vocabulary) == len(pipeline.tokenizer)
