"""Batches of prepared images: what they hold, and that it depends on the seed, the step and the row alone."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from hybridbooth_core.data.prepare import prepare
from hybridbooth_core.data.reader import ShardReader
from hybridbooth_core.data.samples import Standards
from hybridbooth_core.encoders.features import square_crops
from hybridbooth_core.training.batch import DataShard
from hybridbooth_core.training.config import Data
from hybridbooth_core.training.prompt_templates import COLOURS
from hybridbooth_core.training.sources import NOUN, ShardSource

SIDES = (32, 28)
PLAIN = {"neutral": 1, "condition_drop": 0, "masked": 1, "background": 0, "augment": 0, "interleave": 2}
TWO, ONE = DataShard(2, 2), DataShard(1, 1)
COLUMNS = ("clip", "dino", "reference", "target", "masks", "masked")


@pytest.fixture
def data(shards):
    return Data(shards=shards.cached, cached=True, interleave=2, background=0, augment=0)


@pytest.fixture
def cached(data):
    return ShardSource(data, seed=1, micro=4)


def first(source, count=6, share=TWO):
    """So many batches, one after the other."""
    return list(islice(source.batches(0, share), count))


def pairs(folder, seed, interleave=2):
    """The images of an epoch, as the reader (which has tests of its own) pairs them."""
    return list(islice(ShardReader(folder, seed, interleave=interleave).pairs(), 12))


def test_cached_rows_are_the_shards_own_tensors(cached, shards):
    batches = first(cached)
    for row, (reference, target) in enumerate(pairs(shards.cached, 1)):
        batch, place = batches[row // 2], row % 2
        assert torch.equal(batch.clip[place], reference.clip) and torch.equal(batch.dino[place], reference.dino)
        assert torch.equal(batch.reference[place], reference.reference_latents) and torch.equal(batch.target[place], target.latents)
        assert bool(batch.masked[place]) == (target.mask is not None)
        assert torch.equal(batch.masks[place], torch.ones(64, 64) if target.mask is None else target.mask)
        assert batch.nouns[place] == (target.class_word or NOUN)
        assert "background" not in batch.templates[place][1]
    targets = {target.key: reference.key for reference, target in pairs(shards.cached, 1)}
    assert sum(key != other for key, other in targets.items()) >= 6, "pairs of two images are what this is about"
    assert {bool(masked) for batch in batches for masked in batch.masked} == {True, False}
    assert {noun for batch in batches for noun in batch.nouns} == {"cat", "toy", NOUN}


def test_without_cross_pairs_a_image_is_its_own_reference(data, shards):
    alone = ShardSource(replace(data, cross_pairs=False), 1, 4)
    for batch, (_, target) in zip(first(alone, 12, ONE), pairs(shards.cached, 1), strict=True):
        assert torch.equal(batch.clip[0], target.clip) and torch.equal(batch.target[0], target.latents)
        assert torch.equal(batch.reference[0], target.reference_latents)


def test_cached_images_are_not_decoded(cached, monkeypatch):
    from hybridbooth_core.data import examples

    monkeypatch.setattr(examples, "image_tensor", lambda content: pytest.fail("an image was decoded"))
    assert first(cached, 1)[0].clip.shape == (2, 5, 1024)


def test_without_augmentation_it_is_the_crop_of_inference(shards):
    source = ShardSource(Data(shards=shards.plain, **PLAIN), 1, 4, SIDES)
    batches = first(source)
    for row, (reference, target) in enumerate(pairs(shards.plain, 1)):
        batch, place = batches[row // 2], row % 2
        mask = None if reference.mask is None else reference.mask[None]
        for name, size in (("clip", 32), ("dino", 28), ("reference", 64)):
            assert torch.equal(getattr(batch, name)[place], square_crops(reference.image[None], mask, size)[0])
        assert torch.equal(batch.target[place], target.image)


def test_clip_dino_and_the_regressor_see_the_same_augmentation(shards):
    """With one size for all, what they see is one and the same, however it was drawn."""
    source = ShardSource(Data(shards=shards.plain, interleave=2, background=1, augment=1), 1, 4, (64, 64))
    for batch in first(source):
        assert torch.equal(batch.clip, batch.dino) and torch.equal(batch.clip, batch.reference)
    plain = ShardSource(Data(shards=shards.plain, **PLAIN), 1, 4, (64, 64))
    same = [torch.equal(a.clip, b.clip) for a, b in zip(first(source, 12, ONE), first(plain, 12, ONE), strict=True)]
    assert sum(same) <= 2


def test_a_regressor_that_reads_no_latents_gets_no_image_of_its_own(shards):
    source = ShardSource(Data(shards=shards.latents, **PLAIN), 1, 4, SIDES, reads_latents=False)
    batch = first(source, 1)[0]
    assert batch.reference is batch.clip or torch.equal(batch.reference, batch.clip)
    assert not source.needs_autoencoder
    assert ShardSource(Data(shards=shards.latents, **PLAIN), 1, 4, SIDES).needs_autoencoder
    assert ShardSource(Data(shards=shards.plain, **PLAIN), 1, 4, SIDES, reads_latents=False).needs_autoencoder


@pytest.mark.parametrize("kind", ["cached", "pictures"])
def test_rows_depend_on_seed_step_and_number_alone(kind, shards, data):
    """However many processes and however small their micro-batches; and from whichever step on."""

    def source(seed):
        varied = Data(shards=shards.plain, interleave=2, background=1, augment=1)
        return ShardSource(data if kind == "cached" else varied, seed, 4, SIDES)

    def rows(seed, shares, start=0, steps=5):
        found = {}
        for share in shares:
            stream = source(seed).batches(start, share)
            for step in range(start, start + steps):
                for micro in range(share.accumulation):
                    batch = next(stream)
                    assert list(batch.rows) == share.rows(micro)
                    for place, row in enumerate(batch.rows):
                        tensors = [getattr(batch, name)[place] for name in COLUMNS]
                        found[step, row] = (tensors, batch.nouns[place], batch.templates[place])
        return found

    def equal(a, b):
        return a[1:] == b[1:] and all(map(torch.equal, a[0], b[0]))

    whole = rows(1, [DataShard(4, 4)])
    assert len(whole) == 20
    for shares in ([DataShard(4, 2)], [DataShard(4, 2, 0, 2), DataShard(4, 2, 1, 2)], [DataShard(4, 1, 0, 2), DataShard(4, 1, 1, 2)]):
        others = rows(1, shares)
        assert others.keys() == whole.keys() and all(equal(whole[key], others[key]) for key in whole)
    later = rows(1, [DataShard(4, 2)], start=3, steps=2)
    assert all(equal(whole[key], later[key]) for key in later)
    other = rows(2, [DataShard(4, 4)])
    assert sum(equal(whole[key], other[key]) for key in whole) <= 3


def test_the_background_that_a_template_names_is_painted(shards):
    source = ShardSource(Data(shards=shards.plain, **{**PLAIN, "neutral": 0}), 1, 4, SIDES)
    augmented = set()
    for batch, (_, target) in zip(first(source, 12, ONE), pairs(shards.plain, 1), strict=True):
        after = batch.templates[0][1]
        if target.mask is None:
            assert after == "" and torch.equal(batch.target[0], target.image)
            continue
        name = after.removeprefix("on a ").removesuffix(" background")
        inside, outside = target.mask == 1, target.mask == 0
        assert torch.equal(batch.target[0][inside], target.image[inside])
        assert torch.equal(batch.target[0][outside], torch.tensor(COLOURS[name]).expand(int(outside.sum()), 3))
        augmented.add(name)
    assert len(augmented) > 2


def test_targets_are_latents_only_if_no_template_changes_images(shards):
    latents = {}
    for name in ("plain", "latents", "cached"):
        for neutral in (0.5, 1):
            source = ShardSource(Data(shards=getattr(shards, name), **{**PLAIN, "neutral": neutral}), 1, 4, SIDES)
            shape = first(source, 1)[0].target.shape
            assert (shape == (2, 4, 8, 8)) == source.latents and shape in ((2, 4, 8, 8), (2, 64, 64, 3))
            assert source.held_out(2)[0].target.shape == shape
            latents[name, neutral] = source.latents
    assert [key for key, value in latents.items() if value] == [("latents", 1), ("cached", 1)]
    source = ShardSource(Data(shards=shards.latents, **PLAIN), 1, 4, SIDES)
    for batch, (_, target) in zip(first(source, 12, ONE), pairs(shards.latents, 1), strict=True):
        assert torch.equal(batch.target[0], target.latents)


def test_the_validation_sees_the_first_positions_plainly_every_time(shards):
    source = ShardSource(Data(shards=shards.plain, interleave=2, background=1, augment=1, neutral=0, condition_drop=1), 1, 4, SIDES)
    once, again = source.held_out(10), source.held_out(10)
    assert [list(batch.rows) for batch in once] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for batch, same in zip(once, again, strict=True):
        assert all(torch.equal(getattr(batch, name), getattr(same, name)) for name in COLUMNS) and batch.templates == same.templates
        for place, row in enumerate(batch.rows):
            reference, target = pairs(shards.plain, 1)[row]
            mask = None if reference.mask is None else reference.mask[None]
            assert torch.equal(batch.clip[place], square_crops(reference.image[None], mask, 32)[0])
            assert torch.equal(batch.target[place], target.image)
        assert all(before.endswith(("photo of", "photo of a", "image of", "rendition of")) for before, _ in batch.templates)
        assert {after for _, after in batch.templates} == {""}
    assert sum(len(batch.rows) for batch in source.held_out(100)) == 12, "no image twice"


def test_shards_for_validation_are_read_in_one_order_whatever_the_seed(shards, photos, tmp_path):
    prepare([photos], tmp_path / "other", Standards(size=64), shard_samples=12)
    batches = []
    for seed in (1, 2):
        both = Data(shards=shards.plain, validation=tmp_path / "other", **{**PLAIN, "interleave": 4})
        batches.append(ShardSource(both, seed, 12, SIDES).held_out(12)[0])
    expected = torch.stack([target.image for _, target in pairs(tmp_path / "other", 0, interleave=4)])
    assert torch.equal(batches[0].target, expected) and torch.equal(batches[1].target, expected)


def test_missing_nouns_are_one_warning(shards, caplog):
    source = ShardSource(Data(shards=shards.plain, **PLAIN), 1, 4, SIDES)
    first(source)
    assert [record.getMessage() for record in caplog.records] == [f"2 of 12 images have no class noun; using {NOUN!r}"]


def test_what_cannot_be_read_from_is_one_sentence(data, cached, shards, photos, tmp_path, refuses):
    assert "--data.shards" in refuses(ShardSource, Data(), 1, 4)
    assert "has no shards" in refuses(ShardSource, replace(data, shards=tmp_path), 1, 4)
    assert "no clip, dino, latents" in refuses(ShardSource, replace(data, shards=shards.plain), 1, 4)
    assert "no clip, dino;" in refuses(ShardSource, replace(data, shards=shards.latents), 1, 4)
    assert "lower --data.interleave" in refuses(ShardSource, replace(data, interleave=13), 1, 4)
    assert "2 interleaved shards do not divide among 3" in refuses(next, cached.batches(0, DataShard(6, 2, 0, 3)))
    prepare([photos], tmp_path / "small", Standards(size=128))
    assert "training shards in size" in refuses(ShardSource, Data(shards=shards.plain, validation=tmp_path / "small", **PLAIN), 1, 4, SIDES)
    assert "training shards in clip, dino" in refuses(ShardSource, replace(data, validation=shards.latents), 1, 4)
