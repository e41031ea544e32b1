"""Preprocessing against the original libraries, on photos and on images that are not square."""

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("timm")
pytest.importorskip("torchvision")

from hybridbooth_core.evaluation.photos import open_photo
from hybridbooth_core.evaluation.preprocess import for_clip, for_dino, for_lpips


def images(dataset):
    """Square photos, and crops with even margins, whose centre does not depend on rounding."""
    photos = [open_photo(dataset / "cat" / "00.jpg"), open_photo(dataset / "duck_toy" / "01.jpg")]
    wide = photos[0].resize((448, 336)).crop((0, 0, 448, 224))
    return [*photos, photos[0].resize((512, 512)), wide, photos[1].resize((224, 300))]


def test_clip_equals_transformers_own(dataset):
    processor_of = pytest.importorskip("transformers.models.clip.image_processing_pil_clip").CLIPImageProcessorPil
    for image in images(dataset):
        own = processor_of()(image, return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(for_clip()(image), torch.as_tensor(own), atol=1e-5, rtol=0)


def test_dino_equals_timms_own_at_256(dataset):
    from timm.data import create_transform, resolve_model_data_config

    from hybridbooth_core.evaluation.encoders import new_dino

    config = resolve_model_data_config(new_dino()) | {"crop_pct": 224 / 256}
    assert config["interpolation"] == "bicubic" and config["input_size"] == (3, 224, 224)
    own = create_transform(**config, is_training=False)
    for image in images(dataset):
        torch.testing.assert_close(for_dino()(image), own(image), atol=0, rtol=0)


def test_against_pil_and_numpy_alone(dataset):
    image = open_photo(dataset / "cat" / "01.jpg").resize((300, 256))
    resized = np.asarray(image.resize((int(256 * 300 / 256), 256), Image.Resampling.BICUBIC), dtype=np.float64) / 255
    crop = resized[16:240, 38:262]
    expected = (crop - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(for_dino()(image).numpy(), expected.transpose(2, 0, 1), atol=1e-5)


def test_lpips_sees_minus_one_to_one_at_full_size():
    edges = Image.fromarray(np.array([[[0, 0, 0], [255, 255, 255]], [[0, 255, 0], [51, 51, 51]]], dtype=np.uint8))
    expected = torch.tensor([[[-1.0, 1.0], [-1.0, -0.6]], [[-1.0, 1.0], [1.0, -0.6]], [[-1.0, 1.0], [-1.0, -0.6]]])
    torch.testing.assert_close(for_lpips()(edges), expected)
