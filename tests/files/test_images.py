"""Images from files, PIL, arrays and tensors; PNG files with their facts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hybridbooth_core.files.images import as_images, save_image, to_image


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    found = as_images(tmp_path / "deep.png")
    assert found.shape == (1, 16, 16, 1)
    np.testing.assert_allclose(found[0, ..., 0].numpy(), values / 65535, atol=1e-6)


def test_a_photo_stands_upright(tmp_path):
    image = Image.new("RGB", (20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert as_images(tmp_path / "turned.jpg").shape == (1, 20, 10, 3)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (2, 4, 5, 4)])
def test_integers_count_to_255_and_fractions_to_1(shape):
    whole = np.full(shape, 51, dtype=np.uint8)
    for given in (whole, torch.from_numpy(whole), whole / 255.0):
        found = as_images(given)
        assert found.ndim == 4 and found.dtype == torch.float32 and torch.allclose(found, torch.tensor(0.2))


def test_masks_may_be_a_batch_without_channels(refuses):
    assert as_images(torch.zeros(2, 64, 64), "L").shape == (2, 64, 64, 1)
    assert "[2, 64, 64]" in refuses(as_images, torch.zeros(2, 64, 64))


def test_images_of_several_sizes_are_refused(refuses):
    assert "several" in refuses(as_images, [torch.zeros(4, 4, 3), torch.zeros(5, 4, 3)])
    assert "none" in refuses(as_images, [])


def test_a_png_carries_its_facts(tmp_path, refuses):
    drawn = torch.rand(8, 9, 3)
    save_image(drawn, tmp_path / "a.png", {"parameters": "a <pet>\nSteps: 3"})
    save_image(to_image(drawn), tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert a.text["parameters"] == "a <pet>\nSteps: 3" and (np.asarray(a) == np.asarray(b)).all()  # type: ignore[attr-defined]
    assert "does not exist" in refuses(save_image, drawn, tmp_path / "none" / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
