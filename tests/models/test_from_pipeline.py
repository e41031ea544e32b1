"""The adapter of a diffusers pipeline, against the pipeline's own functions."""

import pytest
import torch

from hybridbooth_core.errors import UserError
from hybridbooth_core.models.from_pipeline import model_of

pytest.importorskip("diffusers")


@pytest.fixture
def pipeline(new_pipeline):
    return new_pipeline(width=32, length=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)


def test_contexts_equal_the_pipelines_own(pipeline):
    model = model_of(pipeline)
    own, _ = pipeline.encode_prompt("a photo of cat on snow", "cpu", 1, False)
    torch.testing.assert_close(model.encode_prompts([["a photo of", "cat on snow"]]).context, own)


def test_subject_embeddings_equal_a_textual_inversion_token_of_the_pipeline(pipeline, tmp_path):
    from safetensors.torch import save_file

    model, embeddings = model_of(pipeline), torch.randn(2, 32)
    context = model.encode_prompts([["a photo of", embeddings, "on snow"]]).context
    save_file({"emb_params": embeddings}, tmp_path / "pet.safetensors")
    pipeline.load_textual_inversion(str(tmp_path / "pet.safetensors"), token="<pet>")
    own, _ = pipeline.encode_prompt("a photo of <pet> on snow", "cpu", 1, False)
    torch.testing.assert_close(context, own)


def test_latents_are_scaled_and_decode_to_images_in_range(pipeline):
    model, images = model_of(pipeline), torch.rand(1, 32, 32, 3)
    mean = pipeline.vae.encode(images.movedim(-1, 1) * 2 - 1).latent_dist.mean
    torch.testing.assert_close(model.encode_image(images), mean * 0.18215)
    decoded = model.decode(model.encode_image(images))
    assert decoded.shape == images.shape
    assert float(decoded.min()) >= 0 and float(decoded.max()) <= 1


def test_schedule_and_size_are_the_pipelines(pipeline):
    model = model_of(pipeline)
    torch.testing.assert_close(model.schedule.alphas_cumprod, pipeline.scheduler.alphas_cumprod)
    assert model.image_size == 32


def test_an_inpainting_pipeline_is_refused_by_name(pipeline):
    pipeline.unet.register_to_config(in_channels=9)
    with pytest.raises(UserError, match="9 input channels"):
        model_of(pipeline)


def test_the_vocabulary_is_the_tokenizers(pipeline):
    vocabulary = model_of(pipeline).vocabulary
    assert vocabulary["cat</w>"] == pipeline.tokenizer.encode("cat")[1] and len(vocabulary) == len(pipeline.tokenizer)
