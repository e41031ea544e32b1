"""Examples in an order that depends on seed and position alone, each once, by any number of processes."""

import gzip
import hashlib
import json
import pickle
import shutil
import tarfile
from collections import Counter
from io import BytesIO
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from hybridbooth_core.data.order import Epoch, shuffled
from hybridbooth_core.data.prepare import prepare
from hybridbooth_core.data.reader import ShardReader
from hybridbooth_core.data.samples import Standards
from hybridbooth_core.data.shards import read_index

from .helpers import PHOTOS, content, stored


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """36 examples of 6 images in 8 shards, the last with one; three identities in turns of 6 and some without."""
    work = tmp_path_factory.mktemp("reader")
    (work / "pictures").mkdir()
    lines = []
    for number in range(36):
        name = ("cat" if number % 2 else "duck_toy") + f"/{number % 3:02d}.jpg"
        shutil.copy(PHOTOS / name, work / "pictures" / f"{number:02d}.jpg")
        identity = {0: "a", 1: "b", 2: "c"}.get(number // 6)
        lines.append(json.dumps({"file_name": f"{number:02d}.jpg", "identity": identity, "class": "cat" if number % 2 else "toy"}))
    (work / "pictures" / "metadata.jsonl").write_text("\n".join(lines))
    prepare([work / "pictures"], work / "out", Standards(size=64), shard_samples=5)
    return work / "out"


def keys(reader, start=0, count=None) -> list[int]:
    return [int(example.key) for example in islice(reader.read(start), count or reader.epoch_length)]


def test_an_example_is_what_was_stored(out):
    by_key = {sample["key"]: sample for sample in stored(out)}
    examples = list(islice(ShardReader(out, interleave=4).read(), 8))
    for example in examples:
        sample = by_key[example.key]
        pixels = np.asarray(Image.open(BytesIO(sample["jpg"])), dtype=np.float32) / 255
        assert example.image is not None and torch.equal(example.image, torch.from_numpy(pixels))
        assert (example.identity, example.class_word) == (sample["json"]["identity"], sample["json"]["class_word"])
        assert example.mask is None and example.clip is None and example.latents is None and example.whole


@pytest.mark.parametrize("interleave", [1, 4, 8, 36])
def test_each_example_comes_once_an_epoch_in_another_order(interleave, out):
    reader = ShardReader(out, seed=3, interleave=interleave, images=False)
    assert reader.epoch_length == 36 // interleave * interleave
    first, second = (keys(reader, epoch * reader.epoch_length) for epoch in (0, 1))
    assert max(Counter(first).values()) == 1 == max(Counter(second).values())
    assert first != second and first != sorted(first)
    assert first == keys(ShardReader(out, seed=3, interleave=interleave, images=False))
    assert first != keys(ShardReader(out, seed=4, interleave=interleave, images=False))


def test_samples_of_a_shard_are_shuffled_too(out):
    """Neighbours in a folder are often one identity; read in one lane, a shard's 5 samples come together, in another order each time."""
    reader = ShardReader(out, interleave=1, images=False)
    runs = [[key % 5 for key in keys(reader, epoch * 36) if key // 5 == 2] for epoch in range(4)]
    assert all(sorted(run) == [0, 1, 2, 3, 4] for run in runs) and len({tuple(run) for run in runs}) > 2


def test_what_a_remainder_leaves_out_is_another_in_each_epoch(out):
    reader = ShardReader(out, interleave=8, images=False)
    counted = Counter(keys(reader, count=32 * 12))
    assert len(counted) == 36


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_each_step_without_overlap_and_see_what_one_would(world, out):
    batch, steps = 8, 11  # over the end of two epochs
    alone = keys(ShardReader(out, seed=1, interleave=8, images=False), count=batch * steps)
    shared = [keys(ShardReader(out, 1, rank, world, 8, False), count=batch // world * steps) for rank in range(world)]
    for step in range(steps):
        part = slice(step * batch // world, (step + 1) * batch // world)
        seen = [key for own in shared for key in own[part]]
        assert sorted(seen) == sorted(alone[step * batch : (step + 1) * batch])
    epochs = [set(own[: 32 // world]) for own in shared]
    assert sum(map(len, epochs)) == len(set().union(*epochs)) == 32


def test_processes_read_their_own_streams_only(out, monkeypatch):
    from hybridbooth_core.data import reader as module

    load = module.load_shard
    opened: list[str] = []
    monkeypatch.setattr(module, "load_shard", lambda folder, shard, images: opened.append(shard.name) or load(folder, shard, images))
    keys(ShardReader(out, rank=0, world=2, interleave=2, images=False), count=18)
    one = list(opened)
    opened.clear()
    keys(ShardReader(out, rank=1, world=2, interleave=2, images=False), count=18)
    assert len(set(one) & set(opened)) <= 1  # the shard in which one lane ends and the next begins
    assert len(one) == len(set(one)) and len(opened) == len(set(opened))


@pytest.mark.parametrize("position", [1, 7, 32, 33, 70])
def test_a_run_goes_on_at_any_position(position, out):
    whole = keys(ShardReader(out, seed=5, interleave=4, images=False), count=90)
    assert keys(ShardReader(out, seed=5, interleave=4, images=False), position, 10) == whole[position : position + 10]
    for rank in range(2):
        own = [whole[place] for place in range(position, 90) if place % 2 == rank]
        assert keys(ShardReader(out, 5, rank, 2, 4, False), position, 5) == own[:5]


def test_pairs_are_two_images_of_one_identity_where_there_are_two(out):
    reader = ShardReader(out, interleave=4)
    pairs = list(islice(reader.pairs(), 36))
    assert [target.key for _, target in pairs] == [example.key for example in islice(reader.read(), 36)]
    shard_of = {sample["key"]: sample["shard"] for sample in stored(out)}
    groups = Counter((shard_of[target.key], target.identity) for _, target in pairs)
    partners = set()
    for other, target in pairs:
        assert other.identity == target.identity and shard_of[other.key] == shard_of[target.key]
        alone = target.identity is None or groups[shard_of[target.key], target.identity] == 1
        assert (other.key == target.key) == alone
        partners.add(other.key)
    assert len(partners) == 36  # each is looked at once


def test_the_order_is_a_function_that_no_library_changes():
    assert shuffled(6, "shards", 0, 1) == [3, 2, 4, 1, 5, 0]  # by sha256sum of shards/0/1/0, shards/0/1/1 ... and sort
    epoch = Epoch([5, 5, 2], seed=0, epoch=0, interleave=2)
    places = [epoch.place(position) for position in range(epoch.length)]
    assert epoch.length == 12 and len(set(places)) == 12
    assert Counter(shard for shard, _ in places) == {0: 5, 1: 5, 2: 2}


def test_invalid_world_and_interleave_are_refused(out, refuses):
    for rank, world, interleave in ((2, 2, 8), (-1, 1, 8), (0, 3, 8), (0, 1, 0)):
        with pytest.raises(ValueError, match="interleave as a multiple of world"):
            ShardReader(out, rank=rank, world=world, interleave=interleave)
    assert "expected at least 64" in refuses(ShardReader, out, interleave=64)


@pytest.fixture
def copy(out, tmp_path):
    return shutil.copytree(out, tmp_path / "copy")


def consume(folder):
    list(islice(ShardReader(folder, interleave=1).read(), 36))


@pytest.mark.parametrize("damage", ["missing", "cut", "one byte", "not a tar", "gone later", "compressed"])
def test_a_missing_or_damaged_shard_is_one_sentence_with_its_name(damage, copy, refuses):
    path = copy / "shard-000003.tar"
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(whole[:-1024])
    elif damage == "one byte":
        path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    elif damage == "not a tar":
        path.write_bytes(bytes(len(whole)))
    elif damage == "compressed":
        path.write_bytes(gzip.compress(whole)[: len(whole)].ljust(len(whole), b"\0"))
    elif damage == "gone later":
        reader = ShardReader(copy, interleave=1)
        path.unlink()
        assert "shard-000003.tar is missing" in refuses(list, islice(reader.read(), 36))
        return
    assert "shard-000003.tar" in refuses(consume, copy)


def change(index, path, value):
    entry = json.loads(index.read_text())
    place = entry
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    index.write_text(json.dumps(entry))


@pytest.mark.parametrize(
    ("path", "value"),
    [(["format"], "other"), (["version"], 2), (["shards"], []), (["shards"], 7), (["config"], []), (["shards", 0, "name"], "../x.tar"),
     (["shards", 0, "samples"], 0), (["shards", 0, "samples"], 10**400), (["shards", 0, "bytes"], True),
     (["shards", 0, "sha256"], "z" * 64), (["shards", 0, "more"], 1), (["shards", 0, "samples"], 4),
     (["config", "size"], 32), (["config", "features"], {"clip": {"width": 8}}),
     (["config", "features"], 7)],
)  # fmt: skip
def test_an_index_that_does_not_fit_is_one_sentence(path, value, copy, refuses):
    change(copy / "index.json", path, value)
    refuses(consume, copy)


def test_a_folder_without_an_index(copy, tmp_path, refuses):
    (copy / "index.json").write_text("{")
    assert "not JSON" in refuses(read_index, copy)
    (copy / "index.json").unlink()
    assert "has no shards" in refuses(read_index, copy)
    (copy / "progress.jsonl").touch()
    assert "is not complete" in refuses(read_index, copy)
    assert content(tmp_path / "copy")


def test_a_compressed_shard_is_never_unpacked(copy, refuses):
    path = copy / "shard-000003.tar"
    replaced(path, gzip.compress(path.read_bytes()))
    assert "not a complete tar" in refuses(consume, copy)


def replaced(path, content):
    """Put something else in a shard's place, and make the index fit."""
    path.write_bytes(content)
    number = int(path.stem[-6:])
    change(path.parent / "index.json", ["shards", number, "bytes"], len(content))
    change(path.parent / "index.json", ["shards", number, "sha256"], hashlib.sha256(content).hexdigest())


def test_members_of_other_kinds_are_never_decoded(out, tmp_path, refuses):
    """A shard with a pickle in it, its hash and size in the index made to fit."""
    shutil.copytree(out, tmp_path / "x")
    path, mark = tmp_path / "x" / "shard-000000.tar", tmp_path / "run"
    with tarfile.open(path, "a") as tar:
        for name in ("000000004.pkl", "000000004.pyd", "000000004.pth"):
            bad = pickle.dumps(Opener(mark))
            info = tarfile.TarInfo(name)
            info.size = len(bad)
            tar.addfile(info, BytesIO(bad))
    replaced(path, path.read_bytes())
    consume(tmp_path / "x")
    prepare([tmp_path / "x"], tmp_path / "again", Standards(size=64))
    assert not mark.exists()
    pickle.loads(pickle.dumps(Opener(mark)))  # noqa: S301  (it would have made the file)
    assert mark.exists()


class Opener:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_other_identity_depends_on_the_position_only(out):
    def strangers(reader, position, count):
        return [(row.target, row.other_identity) for row in islice(reader.rows(position), count)]

    whole = strangers(ShardReader(out, interleave=4), 0, 36)
    shard_of = {sample["key"]: sample["shard"] for sample in stored(out)}
    alone = {int(target.key) for target, stranger in whole if stranger is None}
    assert alone == {0, 1, 2, 3, 4, 35}  # five of one identity share a shard, and the last has a shard to itself
    for target, stranger in whole:
        if stranger is not None:
            other = stranger()
            assert other.key != target.key and shard_of[other.key] == shard_of[target.key]
            assert target.identity is None or other.identity != target.identity
    shared = strangers(ShardReader(out, rank=1, world=2, interleave=4), 6, 10)
    for (target, stranger), (same, again) in zip(whole[7::2], shared, strict=False):
        assert target.key == same.key and (stranger is None) == (again is None)
        assert stranger is None or stranger().key == again().key


def test_rows_are_decoded_only_when_they_are_asked_for(out, monkeypatch):
    from hybridbooth_core.data import examples

    decoded, decode = [], examples.image_tensor
    monkeypatch.setattr(examples, "image_tensor", lambda content: decoded.append(content) or decode(content))
    rows = list(islice(ShardReader(out, interleave=4).rows(), 8))
    assert not decoded
    assert rows[0].target is rows[0].target and len(decoded) == 1
