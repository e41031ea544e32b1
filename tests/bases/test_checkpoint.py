"""A stock checkpoint loads without the hub, and computes what diffusers computes from the same weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers")

from hybridbooth_core.bases import load_base
from hybridbooth_core.bases.checkpoint import check_family_of, load_vae, unet_config
from hybridbooth_core.bases.sd15 import load_model

WIDTH = 64


@pytest.fixture(scope="module")
def model(stock_checkpoint):
    """Loaded where every use of the network raises."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.socket.connect", lambda *a: pytest.fail("the network was asked"))
        return load_model(stock_checkpoint)


@pytest.fixture
def tensors(stock_checkpoint):
    return load_file(stock_checkpoint)


def test_it_computes_what_the_pipeline_computes(model, stock_pipeline):
    ids = stock_pipeline.tokenizer("a photo of a cat", padding="max_length", return_tensors="pt").input_ids
    noisy, t, image = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.rand(1, 64, 64, 3)
    with torch.no_grad():
        context = stock_pipeline.text_encoder(ids).last_hidden_state
        found = model.encode_prompts([["a photo of a cat"]]).context
        torch.testing.assert_close(found, context, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            model.predict_noise(noisy, t, context), stock_pipeline.unet(noisy, t, context).sample, atol=1e-5, rtol=1e-4
        )
        latents = stock_pipeline.vae.encode(image.movedim(-1, 1) * 2 - 1).latent_dist.mode() * 0.18215
        torch.testing.assert_close(model.encode_image(image), latents, atol=1e-5, rtol=1e-4)
        decoded = (stock_pipeline.vae.decode(latents / 0.18215).sample.movedim(1, -1) / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(model.decode(latents), decoded, atol=1e-5, rtol=1e-4)
    assert decoded.std() > 1e-3 and (model.name, model.family, model.image_size) == ("small-sd15", "stable-diffusion-v1", 512)


def test_the_folder_is_the_same_model(model, stock_folder):
    other = load_model(stock_folder)
    prompt, noisy, t = [["a photo of a cat"]], torch.randn(1, 4, 16, 16), torch.tensor([300])
    with torch.no_grad():
        found = [m.predict_noise(noisy, t, m.encode_prompts(prompt).context) for m in (model, other)]
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)
    assert model.fingerprint == other.fingerprint and other.family == model.family


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_denoiser_alone_is_in_half_precision(stock_checkpoint, model, dtype):
    half = load_base(stock_checkpoint, device="cpu", dtype=dtype).model
    assert half.unet.dtype == getattr(torch, dtype) and half.text_encoder.dtype == torch.float32
    assert half.fingerprint == model.fingerprint
    noisy, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
    context = model.encode_prompts([["a cat"]]).context
    exact, rounded = model.predict_noise(noisy, t, context), half.predict_noise(noisy, t, context)
    assert rounded.dtype == torch.float32 and (exact - rounded).norm() / exact.norm() < 0.05


def test_gradients_of_the_embeddings_survive_float16(stock_checkpoint, model):
    """A small loss: without scaling, its gradients round to zero inside the denoiser."""
    half = load_base(stock_checkpoint, device="cpu", dtype="float16").model
    noisy, t, start = torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.randn(2, WIDTH)
    gradients = []
    for m in (model, half):
        leaf = start.clone().requires_grad_(True)
        noise = m.predict_noise(noisy, t, m.encode_prompts([["a photo of", leaf]]).context)
        gradients.append(torch.autograd.grad(1e-5 * noise.square().mean(), leaf)[0].flatten())
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def test_a_float16_file_without_the_inner_name(tensors, tmp_path, model):
    """As v1-5-pruned-emaonly is in float16; and as old files name their text encoder."""
    old = {name.replace("transformer.text_model.", "transformer."): tensor.half() for name, tensor in tensors.items()}
    old["cond_stage_model.transformer.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(old, tmp_path / "old.safetensors")
    found = load_model(tmp_path / "old.safetensors")
    assert found.unet.dtype == torch.float32
    torch.testing.assert_close(found.token_embeddings("cat"), model.token_embeddings("cat"), atol=1e-3, rtol=1e-2)


def test_a_checkpoint_of_v_prediction_says_so_by_a_key(tensors, tmp_path):
    save_file({**tensors, "v_pred": torch.tensor([])}, tmp_path / "v.safetensors")
    assert load_model(tmp_path / "v.safetensors").schedule.prediction == "v_prediction"


def test_the_autoencoder_alone(stock_checkpoint, stock_pipeline):
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            load_vae(stock_checkpoint).encode(image).latent_dist.mean, stock_pipeline.vae.encode(image).latent_dist.mean
        )


def test_sizes_of_the_true_layout():
    """The shapes of v1-5-pruned-emaonly that decide its configuration."""
    unet = "model.diffusion_model."
    shapes = {f"{unet}input_blocks.0.0.weight": (320, 4, 3, 3), f"{unet}out.2.weight": (4, 320, 3, 3)}
    block = 1
    for level, width in enumerate((320, 640, 1280, 1280)):
        for _ in range(2):
            shapes[f"{unet}input_blocks.{block}.0.out_layers.3.weight"] = (width, width, 3, 3)
            if level < 3:
                shapes[f"{unet}input_blocks.{block}.1.proj_in.weight"] = (width, width, 1, 1)
                shapes[f"{unet}input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight"] = (width, 768)
            block += 1
        if level < 3:
            shapes[f"{unet}input_blocks.{block}.0.op.weight"] = (width, width, 3, 3)
            block += 1
    config = unet_config(shapes)
    assert config["block_out_channels"] == [320, 640, 1280, 1280] and config["layers_per_block"] == 2
    assert config["down_block_types"] == [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"] and config["cross_attention_dim"] == 768


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conditioner.embedders.0.x": (1,)}, "SDXL"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (32, 9, 3, 3)}, "inpainting"),
        ({"model.diffusion_model.input_blocks.0.0.weight": None}, "no denoiser"),
        ({"cond_stage_model.model.x": (1,)}, "Stable Diffusion 2"),
        ({"cond_stage_model.transformer.": None}, "without a text encoder"),
        ({"first_stage_model.": None}, "autoencoder"),
    ],
)
def test_another_family_is_named(change, said, stock_checkpoint, refuses):
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(stock_checkpoint).items()}
    for name, shape in change.items():
        shapes = {key: value for key, value in shapes.items() if not key.startswith(name)} | ({name: shape} if shape else {})
    assert said in refuses(check_family_of, "file.safetensors", shapes)


@pytest.mark.parametrize("damage", ["truncated", "missing", "no header"])
def test_a_damaged_checkpoint_is_one_sentence(damage, tensors, stock_checkpoint, tmp_path, refuses):
    path = tmp_path / "sd.safetensors"
    if damage == "missing":
        save_file({name: tensor for name, tensor in tensors.items() if "middle_block.0.in_layers" not in name}, path)
    else:
        content = stock_checkpoint.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"\x00" * 100)
    assert "sd.safetensors" in refuses(load_model, path)


def test_a_pickle_is_not_opened(tmp_path, refuses):
    (tmp_path / "sd.ckpt").write_bytes(b"\x80\x04")
    assert "pickle" in refuses(load_model, tmp_path / "sd.ckpt")
