"""CLIP ViT-L/14 at full size against transformers, with the same random weights; other file layouts at a small size."""

import os

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("transformers")

from hybridbooth_core.encoders.catalogue import PROJECTION, TEXT_PROJECTION
from hybridbooth_core.encoders.clip_space import load_clip_space
from hybridbooth_core.encoders.clip_vit import CLIP_L14, ClipSize, load_clip_vision, load_text_projection
from hybridbooth_core.encoders.pixels import CLIP_MEAN, CLIP_STD, normalise
from hybridbooth_core.encoders.precision import weights_dtype

from .conftest import as_tensor, randomised, relative

SMALL = ClipSize("small", "a/test", 14, 2, 64, 4, 32, 4, 48, image=56)


def reference(size: ClipSize):
    """transformers' CLIP with random weights exact in float16; the text model is small, since only its projection is used."""
    from transformers import CLIPConfig, CLIPModel

    text = {"hidden_size": size.text_width, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 9, "num_attention_heads": 4}
    with torch.device("meta"):
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=size.vision, projection_dim=size.projection))
    model.to_empty(device="cpu")
    for half in (model.vision_model, model.text_model):
        ids = half.embeddings.position_ids
        half.embeddings.position_ids = torch.arange(ids.shape[-1])[None]
    return randomised(model).half().float()


def published(model) -> dict[str, torch.Tensor]:
    """A file's tensors, float16, with the counters that old versions of transformers stored as well."""
    counters = {f"{half}_model.embeddings.position_ids": torch.arange(9)[None] for half in ("text", "vision")}
    return {name: tensor.half() for name, tensor in model.state_dict().items()} | counters


@pytest.fixture(scope="module")
def true_size(tmp_path_factory):
    """(transformers' model, the file of the same weights)."""
    model, path = reference(CLIP_L14), tmp_path_factory.mktemp("clip") / "anything.safetensors"
    save_file(published(model), path)
    yield model, path
    path.unlink()  # 600 MB that pytest would keep


@pytest.fixture(scope="module")
def vision(true_size):
    return load_clip_vision(true_size[1])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    model, path = reference(SMALL), tmp_path_factory.mktemp("small") / "small.safetensors"
    save_file(published(model), path)
    return model, path


def processor():
    return pytest.importorskip("transformers.models.clip.image_processing_pil_clip").CLIPImageProcessorPil()


def test_preprocessing_of_a_square_agrees_with_transformers(photos):
    squares = [photo.crop((16, 16, 240, 240)) for photo in photos]
    own = torch.stack([torch.as_tensor(processor()(square, return_tensors="pt")["pixel_values"][0]) for square in squares])
    ours = normalise(torch.stack([as_tensor(square) for square in squares]), CLIP_MEAN, CLIP_STD)
    torch.testing.assert_close(ours, own, atol=1e-5, rtol=0)


def test_preprocessing_of_a_photo_agrees_with_transformers(photos, crops):
    """PIL rounds to 8 bits and clips after each axis; ours does not round and clips once.

    Beside hard edges that may come to 4 steps of 255; the mean is rounding, a third of a step.
    """
    own = torch.stack([torch.as_tensor(processor()(photo, return_tensors="pt")["pixel_values"][0]) for photo in photos])
    difference = (normalise(crops, CLIP_MEAN, CLIP_STD) - own).abs()
    assert float(difference.max()) < 4 / 255 / min(CLIP_STD) and float(difference.mean()) < 0.4 / 255 / min(CLIP_STD)


@pytest.mark.slow
@torch.no_grad()
def test_tokens_and_joint_embeddings_agree_with_transformers(true_size, vision, photos):
    model, path = true_size
    square = photos[0].crop((16, 16, 240, 240))
    prepared = torch.as_tensor(processor()(square, return_tensors="pt")["pixel_values"])
    own = model.vision_model(pixel_values=prepared)
    image, space = as_tensor(square)[None], load_clip_space([path.parent])
    tokens = vision(image)
    assert tokens.shape == (1, 257, 1024) and tokens.dtype == torch.float32 and space.size == 224
    assert relative(own.last_hidden_state, tokens) < 1e-4
    assert relative(model.visual_projection(own.pooler_output), space.images(image)) < 1e-4
    states = torch.randn(2, 768)
    assert relative(model.text_projection(states), space.project_text(states)) < 1e-5


def test_a_given_vision_model_encodes_the_images(true_size):
    class Wired:
        size = 99

        def embed(self, images):
            return images.sum((1, 2))

    space = load_clip_space([true_size[1].parent], clip_vision=Wired())
    assert space.size == 99 and space.images(torch.ones(1, 2, 2, 3)).tolist() == [[4.0, 4.0, 4.0]]


def test_all_layouts_of_the_file_give_the_same_tokens(small, tmp_path, refuses):
    _, whole = small
    tensors = published(small[0])
    stock = {name: t for name, t in tensors.items() if name.startswith("vision_model.") or name == PROJECTION}  # ComfyUI's CLIP vision
    alone = {name: t for name, t in stock.items() if name != PROJECTION}
    images = torch.rand(3, 56, 56, 3)
    expected, embedded = load_clip_vision(whole, size=SMALL)(images), load_clip_vision(whole, size=SMALL).embed(images)
    assert expected.shape == (3, 17, 64) and embedded.shape == (3, 48)
    for name, part in {"stock": stock, "alone": alone}.items():
        save_file(part, tmp_path / f"{name}.safetensors")
        assert torch.equal(load_clip_vision(tmp_path / f"{name}.safetensors", size=SMALL)(images), expected)
    assert torch.equal(load_clip_vision(tmp_path / "stock.safetensors", size=SMALL).embed(images), embedded)
    assert PROJECTION in refuses(load_clip_vision(tmp_path / "alone.safetensors", size=SMALL).embed, images)
    assert TEXT_PROJECTION in refuses(load_text_projection, tmp_path / "stock.safetensors", SMALL)


def test_many_images_are_encoded_in_batches(small, monkeypatch):
    vision = load_clip_vision(small[1], size=SMALL)
    images = torch.rand(5, 56, 56, 3)
    at_once = vision(images)
    monkeypatch.setattr("hybridbooth_core.encoders.pixels.BATCH", 2)
    torch.testing.assert_close(vision(images), at_once)


def test_frozen_and_without_gradients(small):
    vision = load_clip_vision(small[1], size=SMALL)
    assert not vision.training and not any(parameter.requires_grad for parameter in vision.parameters())
    assert not vision(torch.rand(1, 56, 56, 3, requires_grad=True)).requires_grad
    states = torch.randn(1, 32, requires_grad=True)
    assert load_text_projection(small[1], SMALL)(states).requires_grad, "texts are fitted to images through it"


@pytest.mark.parametrize("shape", [(0, 56, 56, 3), (1, 56, 57, 3), (1, 56, 56, 4), (56, 56, 3)])
def test_other_shapes_are_refused(small, shape):
    with pytest.raises((ValueError, RuntimeError)):
        load_clip_vision(small[1], size=SMALL)(torch.zeros(shape))


def test_damaged_files_are_refused(small, tmp_path, refuses):
    tensors, path = published(small[0]), tmp_path / "x.safetensors"
    name = "vision_model.encoder.layers.1.mlp.fc1.weight"
    save_file({key: t for key, t in tensors.items() if key != name}, path)
    assert name in refuses(load_clip_vision, path, size=SMALL)
    save_file(tensors | {name: torch.full_like(tensors[name], torch.nan)}, path)
    assert "not finite" in refuses(load_clip_vision, path, size=SMALL)
    save_file(tensors | {name: torch.zeros(3, 3)}, path)
    assert "made for another model" in refuses(load_clip_vision, path, size=SMALL)
    os.truncate(path, path.stat().st_size // 2)
    refuses(load_clip_vision, path, size=SMALL)
    path.write_bytes(b"\x80\x04pickle")
    refuses(load_clip_vision, path, size=SMALL)


def test_half_precision_only_where_it_is_fast():
    half, mixed = {"a": {"dtype": "F16"}, "b": {"dtype": "F16"}}, {"a": {"dtype": "F16"}, "b": {"dtype": "F32"}}
    assert weights_dtype(half, half, "cuda") == torch.float16 and weights_dtype({"a": {"dtype": "BF16"}}, "a", "cuda:1") == torch.bfloat16
    assert {weights_dtype(half, half, device) for device in ("cpu", "mps")} == {torch.float32}
    assert weights_dtype(mixed, mixed, "cuda") == torch.float32


def test_half_precision_weights_compute_in_half_precision(small):
    """As on a GPU: the images follow the weights' precision, the tokens come back as float32."""
    exact = load_clip_vision(small[1], size=SMALL)
    images = torch.rand(2, 56, 56, 3)
    rounded = load_clip_vision(small[1], size=SMALL).to(torch.bfloat16)(images)
    assert rounded.dtype == torch.float32 and 0 < relative(exact(images), rounded) < 0.2
