"""Decoding untrusted images (rotated, transparent, grey, huge, broken), and the crop, compared with `features.target_squares`."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from hybridbooth_core.data import images
from hybridbooth_core.data.images import Opened, jpeg, square
from hybridbooth_core.data.items import LeftOut
from hybridbooth_core.encoders import features

from .helpers import disc


def data(image, kind="PNG", **more) -> bytes:
    file = BytesIO()
    image.save(file, format=kind, **more)
    return file.getvalue()


def opened(content, need=64, min_side=1) -> Opened:
    return Opened(content, need, min_side)


def reason(content, **more) -> str:
    with pytest.raises(LeftOut) as caught:
        opened(content, **more)
    assert caught.value.detail and "\n" not in caught.value.detail and " at 0x" not in caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("box", [(0, 0, 256, 180), (0, 0, 150, 256), (0, 0, 256, 256)])
@pytest.mark.parametrize("centre", [None, (40, 100), (120, 60)])
def test_the_square_is_the_one_that_a_refinement_reconstructs(box, centre, photo):
    image = photo(2).crop(box)
    found = opened(data(image))
    mask = None
    if centre:
        found.mask = disc(image.size, centre, 30)
        mask = torch.from_numpy(np.asarray(found.mask, dtype=np.float32) / 255)[None]
    ref = features.reference(torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)[None], mask)
    expected = features.target_squares(ref, 96)
    cut, cut_mask = square(found, 96)
    assert np.abs(np.asarray(cut) / 255 - expected.images[0].numpy()).max() < 0.012
    if expected.masks is not None:
        difference = np.abs(np.asarray(cut_mask) / 255 - expected.masks[0].numpy())
        assert difference.max() < 0.05 and difference.mean() < 0.002  # at hard edges 8 bits cut off what overshoots


def test_a_large_jpeg_is_decoded_smaller_and_its_mask_still_fits(photo):
    large = photo(1).resize((1600, 1203), Image.Resampling.BICUBIC)
    mask = disc(large.size, (1200, 600), 300)
    small, whole = opened(data(large, "JPEG", quality=95)), opened(data(large))
    assert small.rgb.width == 200 and small.size == (1600, 1203) == whole.rgb.size
    for each in (small, whole):
        each.use_mask(data(mask))
    (a, mask_a), (b, mask_b) = square(small, 64), square(whole, 64)
    assert np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() < 3
    assert (np.asarray(mask_a) == np.asarray(mask_b)).all()


def test_images_stand_upright_and_their_masks_fit_the_upright_image(photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it
    image = photo(0).crop((0, 0, 256, 128))
    found = opened(data(image, "JPEG", exif=exif, quality=98))
    assert found.size == found.rgb.size == (128, 256)
    upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270), float)
    assert np.abs(np.asarray(found.rgb, float) - upright).mean() < 3
    found.use_mask(data(disc((128, 256), (64, 64), 30)))
    with pytest.raises(LeftOut, match="256x128"):
        found.use_mask(data(disc((256, 128), (64, 64), 30)))


def test_transparency_is_the_mask_and_lies_over_grey(photo):
    image = photo(0)
    assert round(255 * features.GREY) == images.GREY
    image.putalpha(disc((256, 256), (128, 128), 60))
    found = opened(data(image))
    assert found.mask is not None
    assert (np.asarray(found.mask) == np.asarray(disc((256, 256), (128, 128), 60))).all()
    assert (np.asarray(found.rgb)[0, 0] == images.GREY).all() and (np.asarray(found.rgb)[128, 128] != images.GREY).any()
    image.putalpha(255)
    assert opened(data(image)).mask is None


def test_grey_palette_and_16_bit_images(photo):
    grey = photo(0).convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    for image in (grey, deep):
        assert (np.asarray(opened(data(image)).rgb)[..., 1] == np.asarray(grey)).all()
    assert opened(data(photo(0).convert("P"))).rgb.mode == "RGB"
    assert opened(data(photo(0).convert("CMYK"), "JPEG")).rgb.mode == "RGB"


def test_incomplete_images_are_unreadable(photo):
    whole = data(photo(0), "JPEG")
    damaged = bytearray(data(photo(0)))
    damaged[1000:1100] = bytes(100)
    for content in (
        b"",
        b"hello",
        whole[: len(whole) // 2],
        bytes(damaged),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"GIF89a",
    ):
        assert reason(content) == "unreadable"
    assert reason(data(photo(0), "BMP")) == "unreadable"  # Pillow reads it; no other decoder than the three is let near


def test_bombs_are_refused_before_they_are_unpacked():
    def png(width, height):
        def chunk(kind, body):
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")

    assert reason(png(9000, 9000)) == "large"
    assert reason(png(60000, 60000)) == "large"  # what Pillow itself refuses
    assert reason(png(8000, 8000)) == "unreadable"  # allowed, but it is not whole


def test_small_images_are_told_by_their_shorter_side(photo):
    assert reason(data(photo(0).crop((0, 0, 256, 100))), min_side=101) == "small"
    assert opened(data(photo(0).crop((0, 0, 256, 100))), min_side=100).size == (256, 100)


def test_masks_that_cannot_be_used(photo):
    found = opened(data(photo(0)))
    for content in (b"none", data(disc((128, 128), (64, 64), 30))):
        with pytest.raises(LeftOut) as caught:
            found.use_mask(content)
        assert caught.value.reason == "mask"
    assert found.mask is None


def test_stored_files_carry_nothing_but_the_image(photo):
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    content = data(photo(0), "JPEG", exif=exif, comment=b"a comment", icc_profile=b"x" * 200)
    found = opened(content, need=256)
    again = Image.open(BytesIO(jpeg(found.rgb)))
    assert not again.getexif() and set(again.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert np.abs(np.asarray(again, float) - np.asarray(found.rgb, float)).mean() < 2
