"""Cached features, against what training would compute from the stored image itself."""

import numpy as np
import pytest
import torch
from PIL import Image

from hybridbooth_core.bases.autoencoder import load_autoencoder
from hybridbooth_core.data.cache import Autoencoder, FeatureCache
from hybridbooth_core.data.prepare import prepare
from hybridbooth_core.data.reader import ShardReader
from hybridbooth_core.data.samples import Standards
from hybridbooth_core.encoders.features import extract_features, reference
from hybridbooth_core.encoders.published import Encoder

from .helpers import content

SMALL = Standards(size=64)


@pytest.fixture
def cache_of(world, encoders):
    """A function: the share of whole images to a cache with the miniature's layouts and random weights."""

    def make(share: float) -> FeatureCache:
        both = Encoder("test/clip", encoders.clip), Encoder("test/dino", encoders.dino)
        return FeatureCache(both, Autoencoder(world.coder, "00ff"), share)

    return make


@pytest.mark.parametrize(("share", "whole"), [(0.0, {False}), (1.0, {True}), (0.5, {False, True})])
def test_features_are_what_extract_features_makes_of_the_stored_image(share, whole, masked, tmp_path, cache_of, world, encoders):
    (masked / "04_mask.png").unlink()
    prepare([masked], tmp_path / "out", SMALL, shard_samples=5, cache=cache_of(share))
    reader = ShardReader(tmp_path / "out", interleave=1)
    examples = reader.read()
    seen = [next(examples) for _ in range(reader.epoch_length)]
    assert {example.whole for example in seen if example.mask is not None} == whole
    for example in seen:
        assert example.image is not None and example.latents is not None and example.reference_latents is not None
        mask = None if example.whole or example.mask is None else example.mask[None]
        expected = extract_features(world, encoders.clip, encoders.dino, reference(example.image[None], mask))
        close = {"atol": 2e-3, "rtol": 2e-3}
        torch.testing.assert_close(example.clip, expected.clip[0].half(), **close)
        torch.testing.assert_close(example.dino, expected.dino[0].half(), **close)
        torch.testing.assert_close(example.reference_latents, expected.latents[0].half(), **close)
        torch.testing.assert_close(example.latents, world.encode_image(example.image[None])[0].half(), **close)
        assert torch.equal(example.latents, example.reference_latents) == (mask is None)


def test_features_of_an_interrupted_run_are_the_same_bytes(masked, tmp_path, cache_of):
    prepare([masked], tmp_path / "whole", SMALL, 5, cache=cache_of(0.5))

    def stop(counts):
        if counts["read"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([masked], tmp_path / "out", SMALL, 5, cache=cache_of(0.5), on_event=stop)
    prepare([masked], tmp_path / "out", SMALL, 5, cache=cache_of(0.5))
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_the_index_says_which_networks_and_others_are_refused(masked, tmp_path, cache_of, encoders, refuses):
    index = prepare([masked], tmp_path / "out", SMALL, cache=cache_of(0.2))
    features = index.config["features"]
    assert (features["clip"]["id"], features["clip"]["width"], features["whole_share"]) == ("test/clip", encoders.clip.width, 0.2)
    assert len({features[name]["fingerprint"] for name in ("clip", "dino", "latents")}) == 3
    assert "started with features" in refuses(prepare, [masked], tmp_path / "out", SMALL)
    assert "started with features" in refuses(prepare, [masked], tmp_path / "out", SMALL, cache=cache_of(0.3))


def test_one_name_has_one_view_and_the_share_is_kept(cache_of):
    cache = cache_of(0.2)
    names = [f"{number}.jpg" for number in range(2000)]
    views = [cache.view(name, True) for name in names]
    assert views == [cache.view(name, True) for name in names]
    assert 0.16 < views.count("whole") / len(views) < 0.24
    assert {cache.view(name, False) for name in names} == {"whole"}


def test_only_what_was_asked_for_is_cached(masked, tmp_path, world, encoders):
    prepare([masked], tmp_path / "a", SMALL, cache=FeatureCache(None, Autoencoder(world.coder, "00ff"), 0.2))
    prepare([masked], tmp_path / "b", SMALL, cache=FeatureCache((Encoder("c", encoders.clip), Encoder("d", encoders.dino)), None, 0.2))
    a, b = (next(ShardReader(tmp_path / name, interleave=1, images=False).read()) for name in "ab")
    assert a.latents is not None and a.clip is None and a.dino is None and a.image is None and a.mask is not None
    assert b.latents is None and b.reference_latents is None and b.clip is not None and b.dino is not None


def test_numbers_that_float16_cannot_hold_are_refused(masked, tmp_path, refuses):
    class Wild:
        size, width = 32, 8

        def __call__(self, images):
            return torch.full((len(images), 4, 8), 1e6)

    cache = FeatureCache((Encoder("c", Wild()), Encoder("d", Wild())), None, 0.2)
    assert "float16 overflows" in refuses(prepare, [masked], tmp_path / "out", SMALL, cache=cache)
    assert "from 0 to 1" in refuses(FeatureCache, None, None, 1.5)


def test_the_autoencoder_of_a_folder_of_diffusers_equals_the_pipelines(new_pipeline, tmp_path, photo, refuses):
    pipeline = new_pipeline(width=32, length=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    pipeline.save_pretrained(tmp_path / "model", safe_serialization=True)
    coder = load_autoencoder(tmp_path / "model", "cpu")
    image = torch.from_numpy(np.asarray(photo(0).resize((64, 64)), dtype=np.float32) / 255)[None]
    with torch.no_grad():
        expected = pipeline.vae.encode(image.movedim(-1, 1) * 2 - 1).latent_dist.mean * pipeline.vae.config.scaling_factor
    torch.testing.assert_close(coder(image), expected)
    assert "model_index.json" in refuses(load_autoencoder, tmp_path, "cpu")
    index = tmp_path / "model" / "model_index.json"
    index.write_text(index.read_text().replace('"StableDiffusionPipeline"', '"StableDiffusionXLPipeline"'))
    assert "StableDiffusionXLPipeline" in refuses(load_autoencoder, tmp_path / "model", "cpu")
    index.write_text(index.read_text().replace("XLPipeline", "Pipeline"))
    next((tmp_path / "model" / "vae").glob("*.safetensors")).unlink()
    assert "autoencoder" in refuses(load_autoencoder, tmp_path / "model", "cpu")


def test_masks_in_8_bits_come_back_as_shares(masked, tmp_path):
    Image.new("L", (256, 256), 100).save(masked / "00_mask.png")
    prepare([masked], tmp_path / "out", SMALL)
    masks = {e.key: e.mask for e, _ in zip(ShardReader(tmp_path / "out", interleave=1).read(), range(6), strict=False)}
    mask = masks["000000000"]
    assert mask is not None and torch.allclose(mask, torch.full((64, 64), 100 / 255))
