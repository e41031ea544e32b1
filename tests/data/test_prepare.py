"""What is stored of which images, and what is said of the others."""

import json
import os
import shutil
import threading
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFilter

from hybridbooth_core.data import manifest as journal
from hybridbooth_core.data import shards
from hybridbooth_core.data.masks import MaskMaker
from hybridbooth_core.data.prepare import prepare
from hybridbooth_core.data.samples import Standards

from .helpers import PHOTOS, content, disc, left_out, stored

SMALL = Standards(size=64)


def test_real_photos_with_their_identities_and_nouns(tmp_path):
    index = prepare([PHOTOS], tmp_path / "out", Standards(size=128, licence="CC-BY-4.0"), shard_samples=4)
    samples = stored(tmp_path / "out")
    assert [sample["json"]["source"] for sample in samples] == [f"{who}/0{n}.jpg" for who in ("cat", "duck_toy") for n in range(3)]
    assert [sample["key"] for sample in samples] == [f"{number:09d}" for number in range(6)]
    assert [sample["shard"][-5] for sample in samples] == list("000011")
    first, last = samples[0]["json"], samples[-1]["json"]
    assert (first["identity"], first["class_word"], first["licence"]) == ("cat", "cat", "CC-BY-4.0")
    assert (last["identity"], last["class_word"]) == ("duck_toy", "toy")
    assert (first["width"], first["height"], first["area"]) == (256, 256, None) and 0 < first["blur"] < 0.6
    for sample in samples:
        image = Image.open(BytesIO(sample["jpg"]))
        original = Image.open(PHOTOS / sample["json"]["source"]).resize((128, 128))
        assert image.size == (128, 128) and np.abs(np.asarray(image, float) - np.asarray(original, float)).mean() < 4
        assert "mask.png" not in sample
    assert index == shards.read_index(tmp_path / "out")
    assert index.counts["kept"] == index.counts["read"] == index.counts["with_class"] == 6
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["index.json", "left_out.jsonl", "shard-000000.tar", "shard-000001.tar"]
    assert str(tmp_path).encode() not in b"".join(content(tmp_path / "out").values())


def test_each_reason_is_counted_and_named(folder, photo, tmp_path):
    for name, number in (("a good.jpg", 0), ("b masked.png", 1), ("h odd mask.png", 2), ("i no mask.png", 3)):
        photo(number).save(folder / name)
    disc((256, 256), (128, 128), 64).save(folder / "b masked.mask.png")
    disc((128, 128), (64, 64), 32).save(folder / "h odd mask.mask.png")
    (folder / "i no mask.mask.png").write_text("none")
    photo(0).crop((0, 0, 256, 60)).save(folder / "c small.png")
    photo(0).filter(ImageFilter.GaussianBlur(12)).save(folder / "d blurred.png")
    (folder / "e broken.jpg").write_bytes((PHOTOS / "cat/00.jpg").read_bytes()[:5000])
    for name, radius in (("f far", 30), ("g near", 125)):
        photo(0).save(folder / f"{name}.png")
        disc((256, 256), (128, 128), radius).save(folder / f"{name}_mask.png")
    index = prepare([folder], tmp_path / "out", SMALL)
    expected = [
        ("c small.png", "small"), ("d blurred.png", "blur"), ("e broken.jpg", "unreadable"), ("f far.png", "area"), ("g near.png", "area"),
        ("h odd mask.png", "mask"), ("i no mask.png", "mask"),
    ]  # fmt: skip
    assert left_out(tmp_path / "out") == expected
    assert index.counts["left_out"] == {"unreadable": 1, "large": 0, "small": 1, "mask": 2, "area": 2, "blur": 1}
    assert (index.counts["read"], index.counts["kept"], index.counts["with_mask"], index.counts["with_class"]) == (9, 2, 1, 0)
    plain, masked = stored(tmp_path / "out")
    assert "mask.png" not in plain and plain["json"]["class_word"] is None
    mask = np.asarray(Image.open(BytesIO(masked["mask.png"]))) / 255
    assert mask.shape == (64, 64) and mask.mean() == pytest.approx(np.pi / 16, abs=0.003) == masked["json"]["area"]


def test_the_standards_decide(masked, tmp_path):
    def kept(name, **changes):
        return prepare([masked], tmp_path / name, Standards(**{"size": 64, **changes})).counts["kept"]

    assert kept("a") == 6
    assert kept("b", area=(0.15, 0.25)) == 6
    assert kept("c", min_side=256) == 6
    blurs = [sample["json"]["blur"] for sample in stored(tmp_path / "a")]
    assert kept("d", max_blur=sorted(blurs)[3]) == 4
    for name, changes in (("e", {"area": (0.25, 0.7)}), ("f", {"min_side": 257})):
        with pytest.raises(ValueError, match="none of the 6 images can be used"):
            kept(name, **changes)


def test_a_blurred_background_is_no_blur(folder, photo, tmp_path):
    mask = disc((256, 256), (128, 128), 64)
    blurred = photo(0).filter(ImageFilter.GaussianBlur(12))
    for name, inside, around in (("background", photo(0), blurred), ("subject", blurred, photo(0))):
        Image.composite(inside, around, mask).save(folder / f"{name}.png")
        mask.save(folder / f"{name}_mask.png")
    prepare([folder], tmp_path / "out", Standards(size=256, max_blur=0.5))
    assert left_out(tmp_path / "out") == [("subject.png", "blur")]


def test_one_word_for_all_that_have_none(folder, photo, tmp_path):
    for number in range(2):
        photo(number).save(folder / f"{number}.png")
    lines = [{"file_name": "0.png", "class": "kitten", "identity": "tom"}, {"file_name": "1.png"}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    prepare([folder], tmp_path / "out", Standards(size=64, class_word="cat"))
    facts = [(sample["json"]["class_word"], sample["json"]["identity"]) for sample in stored(tmp_path / "out")]
    assert facts == [("kitten", "tom"), ("cat", None)]


def test_shards_can_be_prepared_again(masked, tmp_path):
    (masked / "05_mask.png").unlink()
    prepare([masked], tmp_path / "a", Standards(size=128, class_word="pet", licence="CC0"), shard_samples=4)
    prepare([tmp_path / "a"], tmp_path / "b", Standards(size=64, class_word="other"), shard_samples=6)
    first, second = stored(tmp_path / "a"), stored(tmp_path / "b")
    for before, after in zip(first, second, strict=True):
        same = ("identity", "class_word", "source", "licence")
        assert [before["json"][name] for name in same] == [after["json"][name] for name in same]
        assert ("mask.png" in before) == ("mask.png" in after)
    assert Image.open(BytesIO(second[0]["jpg"])).size == (64, 64) and second[0]["json"]["width"] == 128
    assert "mask.png" in second[0] and "mask.png" not in second[5]


class StandIn:
    """The interface of transparent_background.Remover: what is brighter than the average, as a soft map in three channels."""

    def __init__(self):
        self.calls, self.busy = 0, threading.Lock()

    def process(self, img, type="rgba"):
        assert type == "map" and img.mode == "RGB" and self.busy.acquire(blocking=False), "two images at once"
        self.calls += 1
        time.sleep(0.05)
        grey = np.asarray(img.convert("L"))
        self.busy.release()
        return Image.fromarray(np.stack([(grey > grey.mean()) * 200] * 3, -1).astype(np.uint8))


def test_masks_are_made_only_where_none_is_given(folder, photo, tmp_path):
    for number in range(4):
        photo(number).save(folder / f"{number}.png")
    disc((256, 256), (128, 128), 64).save(folder / "0_mask.png")
    see_through = photo(1)
    see_through.putalpha(disc((256, 256), (128, 128), 70))
    see_through.save(folder / "1.png")
    remover = StandIn()
    config = {"network": "a stand-in", "sha256": "0" * 64}
    index = prepare([folder], tmp_path / "out", Standards(size=64, area=(0.05, 0.9)), maker=MaskMaker(remover, config), workers=4)
    assert remover.calls == 2 and index.counts["with_mask"] == 4 and index.config["masks"] == config
    made = np.asarray(Image.open(BytesIO(stored(tmp_path / "out")[2]["mask.png"])))
    grey = np.asarray(photo(2).convert("L").resize((64, 64)), float)
    assert made.min() == 0 and made.max() < 240 and grey[made > 150].mean() > grey[made < 50].mean() + 20


def test_the_same_images_make_the_same_bytes_by_any_number_of_workers(masked, tmp_path):
    made = []
    for workers in (1, 7):
        prepare([masked], tmp_path / str(workers), SMALL, shard_samples=2, workers=workers)
        made.append(content(tmp_path / str(workers)))
    assert made[0] == made[1] and len(made[0]) == 5


def test_a_finished_folder_is_left_alone_and_other_settings_are_refused(masked, tmp_path, refuses):
    out = tmp_path / "out"
    index = prepare([masked], out, SMALL, shard_samples=2)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert prepare([masked], out, SMALL, shard_samples=2) == index
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert "size 64, now it is 128" in refuses(prepare, [masked], out, Standards(size=128), 2)
    assert "shard_samples 2, now it is 3" in refuses(prepare, [masked], out, SMALL, 3)


def test_places_that_cannot_be_used(masked, tmp_path, refuses):
    assert "contains other files" in refuses(prepare, [masked], masked, SMALL)
    (tmp_path / "file").touch()
    assert "cannot be written" in refuses(prepare, [masked], tmp_path / "file", SMALL)
    assert "does not exist" in refuses(prepare, [masked], tmp_path / "none" / "out", SMALL)
    assert "in a shard" in refuses(prepare, [masked], tmp_path / "out", SMALL, 0)
    assert not (tmp_path / "out").exists() and len(list(masked.iterdir())) == 12


@pytest.mark.parametrize(
    "changes",
    [{"size": 32}, {"size": 100}, {"size": 4096}, {"area": (0.7, 0.1)}, {"area": (0, 0.5)}, {"area": (0.1, 1)}, {"max_blur": 0},
     {"max_blur": float("nan")}, {"min_side": -1}, {"class_word": ""}, {"class_word": "x" * 65}, {"licence": "a\nb"}],
)  # fmt: skip
def test_standards_that_cannot_be(changes, refuses):
    refuses(Standards, **{"size": 64, **changes})


def interrupt(counts, after):
    if counts["read"] == after:
        raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 2, 3, 5, 6])
def test_an_interrupted_run_goes_on_and_makes_the_same_bytes(after, masked, tmp_path):
    (masked / "02.jpg").write_text("broken")
    prepare([masked], tmp_path / "whole", SMALL, shard_samples=2)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        prepare([masked], out, SMALL, shard_samples=2, on_event=lambda counts: interrupt(counts, after))
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.tar")}
    assert not list(out.glob(".*")) and not (out / "index.json").exists()
    prepare([masked], out, SMALL, shard_samples=2)
    assert content(out) == content(tmp_path / "whole")
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == finished


def test_a_run_may_be_stopped_between_journal_and_rename_again_and_again(masked, tmp_path, monkeypatch):
    prepare([masked], tmp_path / "whole", SMALL, shard_samples=2)
    out, replace = tmp_path / "out", os.replace
    for stop_at in (0, 0, 1, 1, 2, 2):

        def stop(source, target, last=f"shard-{stop_at:06d}.tar"):
            if target.name == last:
                raise KeyboardInterrupt
            replace(source, target)

        monkeypatch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare([masked], out, SMALL, shard_samples=2)
        assert len(list(out.glob("shard-*"))) == stop_at
    monkeypatch.undo()
    prepare([masked], out, SMALL, shard_samples=2)
    assert content(out) == content(tmp_path / "whole")


def test_a_source_that_changed_in_between_is_refused(masked, tmp_path, refuses):
    out = tmp_path / "out"

    def begin():
        shutil.rmtree(out, ignore_errors=True)
        with pytest.raises(KeyboardInterrupt):
            prepare([masked], out, SMALL, shard_samples=2, on_event=lambda counts: interrupt(counts, 5))
        assert len(list(out.glob("shard-*.tar"))) == 2

    begin()
    shutil.copy(masked / "00.jpg", masked / "00a.jpg")
    assert "the source has changed" in refuses(prepare, [masked], out, SMALL, 2)
    (masked / "00a.jpg").unlink()
    shutil.copy(masked / "00.jpg", masked / "06.jpg")  # behind what was read: it may still come
    assert prepare([masked], out, SMALL, 2).counts["kept"] == 7
    begin()
    (out / "shard-000000.tar").unlink()
    assert "shard-000000.tar is missing" in refuses(prepare, [masked], out, SMALL, 2)
    begin()
    with (out / "shard-000001.tar").open("ab") as file:
        file.write(b"x")
    assert "was changed" in refuses(prepare, [masked], out, SMALL, 2)
    begin()
    (out / "progress.jsonl").write_text("{}\n")
    assert "damaged" in refuses(prepare, [masked], out, SMALL, 2)


def test_two_at_once_in_one_place_are_refused(masked, tmp_path, refuses):
    pytest.importorskip("fcntl")
    with journal.Manifest(tmp_path / "out", {"size": 64}):
        assert "is running" in refuses(journal.Manifest, tmp_path / "out", {"size": 64})
    with journal.Manifest(tmp_path / "out", {"size": 64}):
        pass


def test_a_full_disk_is_one_sentence_and_what_is_finished_stays(masked, tmp_path, refuses, monkeypatch):
    prepare([masked], tmp_path / "whole", SMALL, shard_samples=2)
    out, add = tmp_path / "out", shards._add
    written = []

    def full(tar, name, data):
        written.append(name)
        if len(written) == 10:
            raise OSError(28, "No space left on device")
        add(tar, name, data)

    monkeypatch.setattr(shards, "_add", full)
    assert "No space left" in refuses(prepare, [masked], out, SMALL, 2)
    assert sorted(path.name for path in out.iterdir()) == ["left_out.jsonl", "progress.jsonl", "shard-000000.tar"]
    monkeypatch.undo()
    prepare([masked], out, SMALL, shard_samples=2)
    assert content(out) == content(tmp_path / "whole")


def test_licences_are_counted_also_over_an_interruption(masked, tmp_path):
    lines = [{"file_name": f"{n:02d}.jpg", "licence": "CC0" if n % 3 else None} for n in range(6)]
    (masked / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    whole = prepare([masked], tmp_path / "whole", SMALL, shard_samples=2)
    assert whole.counts["licences"] == {"unknown": 2, "CC0": 4} and list(whole.licences.items()) == [("CC0", 4), ("unknown", 2)]
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        prepare([masked], out, SMALL, shard_samples=2, on_event=lambda counts: interrupt(counts, 5))
    begun = (out / "progress.jsonl").read_text()
    (out / "progress.jsonl").write_text(begun.replace(', "licences": {"unknown": 1, "CC0": 1}', ""))  # as before they were counted
    (out / "progress.jsonl").write_text((out / "progress.jsonl").read_text().replace(', "licences": {"unknown": 2, "CC0": 2}', ""))
    assert "licences" not in (out / "progress.jsonl").read_text()
    resumed = prepare([masked], out, SMALL, shard_samples=2)
    assert resumed.counts["licences"] == {"CC0": 2} and resumed.licences == {"unknown": 4, "CC0": 2}


def test_of_very_many_licences_most_are_one_number(masked, tmp_path, monkeypatch):
    lines = [{"file_name": f"{n:02d}.jpg", "licence": f"L{n}"} for n in range(6)]
    (masked / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    monkeypatch.setattr(journal, "MAX_LICENCES", 2)
    assert prepare([masked], tmp_path / "out", SMALL).licences == {"other": 4, "L0": 1, "L1": 1}
