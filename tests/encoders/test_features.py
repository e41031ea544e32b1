"""Reference images: invalid ones are refused with one sentence, valid ones become float32 RGB; crops contain the subject."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.encoders.features import GREY, Reference, extract_features, reference, square_crops, target_squares


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*(shape or (1, 32, 48, 3)))


def disc(height: int = 32, width: int = 48, y: float = 16, x: float = 24, radius: float = 8) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return (((rows - y) ** 2 + (columns - x) ** 2).sqrt() < radius).float()[None]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((0, 32, 32, 3), "at least one image"), ((32, 32, 3), "at least one image"), ((1, 1, 32, 32, 3), "at least one image"),
     ((1, 1, 1, 3), "1x1"), ((1, 15, 64, 3), "64x15"), ((1, 0, 0, 3), "0x0"), ((1, 32, 32, 2), "found 2"), ((1, 32, 32, 5), "found 5"),
     ((1, 3, 32, 32), "at least 16 pixels")],
    ids=str,
)  # fmt: skip
def test_an_image_of_a_wrong_shape_is_refused(shape, expected, refuses):
    assert expected in refuses(reference, images(*shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_image_that_is_not_finite_is_refused(value, refuses):
    image = images()
    image[0, 3, 4, 1] = value
    assert "not finite" in refuses(reference, image)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_an_integer_image_is_refused(dtype, refuses):
    assert "0..1" in refuses(reference, torch.ones(1, 32, 32, 3, dtype=dtype))


def test_a_good_image_is_a_float32_copy_within_bounds():
    image = (images() * 2 - 0.5).double().requires_grad_()
    ref = reference(image, disc() > 0)
    assert ref.images.dtype == torch.float32 and not ref.images.requires_grad and ref.masks.dtype == torch.float32
    torch.testing.assert_close(ref.images, image.detach().float().clamp(0, 1))
    plain = images()
    before = plain.clone()
    reference(plain).images.zero_()
    assert torch.equal(plain, before), "the caller's tensor was changed"


def test_greyscale_becomes_rgb_and_that_is_said():
    grey = images(1, 32, 32, 1)
    ref = reference(grey)
    assert torch.equal(ref.images, grey.repeat(1, 1, 1, 3)) and "greyscale" in ref.notices[0]


def test_transparency_is_composited_over_grey_and_that_is_said():
    image = images(1, 32, 32, 4)
    image[:, :16, :, 3], image[:, 16:, :, 3] = 0, 1
    ref = reference(image)
    assert torch.equal(ref.images[:, :16], torch.full((1, 16, 32, 3), GREY))
    assert torch.equal(ref.images[:, 16:], image[:, 16:, :, :3]) and "transparent" in ref.notices[0]


def test_strided_inference_tensors_are_accepted():
    wide = images(2, 40, 40, 6)
    with torch.inference_mode():
        ref = reference(wide[:1, ::2, ::2, ::2], disc(20, 20, 10, 10, 5))
    assert torch.equal(ref.images, wide[:1, ::2, ::2, ::2].clone())


@pytest.mark.parametrize("shape", [(1, 64, 64, 3), (2, 32, 48, 3), (1, 48, 32, 3)])
def test_without_a_mask_the_crop_is_the_centre(shape):
    image = images(*shape)
    side = min(shape[1:3])
    top, left = (shape[1] - side) // 2, (shape[2] - side) // 2
    assert torch.equal(square_crops(image, None, side), image[:, top : top + side, left : left + side])
    assert square_crops(image, None, 24).shape == (shape[0], 24, 24, 3)


@pytest.mark.parametrize(("y", "x"), [(16, 24), (2, 2), (31, 47), (16, 47)], ids=["middle", "upper left", "lower right", "right"])
def test_the_crop_contains_the_subject_alone(y, x):
    """A red disc on green: whole and centred in the crop, all else grey, also where the square leaves the image."""
    mask = disc(y=y, x=x, radius=7)
    image = mask[..., None] * torch.tensor([1.0, 0, 0]) + (1 - mask[..., None]) * torch.tensor([0, 1.0, 0])
    crop = square_crops(image, mask, 64)[0]
    assert crop.shape == (64, 64, 3)
    red, grey = crop[..., 0] - crop[..., 1] > 0.5, (crop - GREY).abs().amax(-1) < 0.2
    assert (red | grey).float().mean() > 0.9 and (crop[..., 1] <= GREY + 0.1).all()
    area = red.float().mean() * ((crop.shape[0]) ** 2)
    side = max(int(mask[0].any(0).sum()), int(mask[0].any(1).sum()))
    scale = 64 / round(side * 1.24)
    assert area == pytest.approx(float(mask.sum()) * scale**2, rel=0.15)
    rows = red.any(1).nonzero()[:, 0].float().mean(), red.any(0).nonzero()[:, 0].float().mean()
    assert all(abs(place - 31.5) < 4 for place in rows)


def test_a_mask_that_is_soft_everywhere_keeps_the_whole_image():
    image = images(1, 32, 32, 3)
    crop = square_crops(image, torch.full((1, 32, 32), 0.4), 40)
    assert crop.shape == (1, 40, 40, 3) and crop.std() > 0.02


@pytest.mark.parametrize(("x", "left"), [(5, 0), (24, 8), (44, 16)])
def test_the_target_is_the_largest_square_around_the_subject(x, left):
    ref = Reference(images(), disc(x=x, radius=4))
    target = target_squares(ref, 32)
    assert torch.equal(target.images, ref.images[:, :, left : left + 32])
    assert torch.equal(target.masks, ref.masks[:, :, left : left + 32])


def test_targets_are_cropped_per_image():
    ref = Reference(images(2, 32, 48, 3), torch.cat([disc(x=5, radius=4), disc(x=44, radius=4)]))
    target = target_squares(ref, 32)
    assert torch.equal(target.images[0], ref.images[0, :, :32]) and torch.equal(target.images[1], ref.images[1, :, 16:])
    assert target_squares(Reference(ref.images, None), 16).masks is None


def test_features_are_those_of_the_crop(world, encoders, subject):
    ref = subject.ref
    crops = square_crops(ref.images, ref.masks, 64)
    features = extract_features(world, encoders.clip, encoders.dino, ref)
    assert torch.equal(features.clip, encoders.clip(crops)) and torch.equal(features.dino, encoders.dino(crops))
    assert torch.equal(features.latents, world.encode_image(crops))
    assert features.clip.shape == (2, 65, 96) and features.latents.shape == (2, 16, 8, 8)
