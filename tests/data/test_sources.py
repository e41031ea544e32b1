"""Finding images: in folders, in lists, in tars."""

import io
import json
import os
import tarfile

import pytest

from hybridbooth_core.data import folders, tars
from hybridbooth_core.data.items import Facts, LeftOut, contained
from hybridbooth_core.data.prepare import open_source

from .helpers import PHOTOS


def names(items) -> list[str]:
    return [item.name for item in items]


def test_folders_are_walked_in_one_order_with_masks_and_identities(folder):
    for name in ("b/2.jpg", "b/1.JPG", "b/c/1.webp", "z.png", "a/x.jpeg", "a/x.mask.png", "b/1_mask.png", ".hidden/1.jpg", "b/.1.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name in ("b/notes.txt", "b/1.pkl"):
        (folder / name).touch()
    items = list(folders.images_in(folder))
    assert names(items) == ["z.png", "a/x.jpeg", "b/1.JPG", "b/2.jpg", "b/c/1.webp"]
    assert [item.facts.identity for item in items] == [None, "a", "b", "b", "b/c"]
    masks = [item.mask and item.mask.path.name for item in items]
    assert masks == [None, "x.mask.png", "1_mask.png", None, None]


def test_only_the_folder_at_hand_has_been_listed(folder, monkeypatch):
    for number in range(50):
        (folder / f"{number:02d}").mkdir()
        (folder / f"{number:02d}" / "0.jpg").touch()
    scanned, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(path) or scandir(path))
    items = folders.images_in(folder)
    assert next(items).name == "00/0.jpg" and len(scanned) == 2
    assert next(items).name == "01/0.jpg" and len(scanned) == 3


def test_links_to_folders_are_not_followed(folder):
    (folder / "a").mkdir()
    (folder / "a" / "1.jpg").touch()
    os.symlink(folder, folder / "a" / "loop")
    os.symlink(folder / "a" / "1.jpg", folder / "2.jpg")
    os.symlink(folder / "nowhere", folder / "3.jpg")
    assert names(folders.images_in(folder)) == ["2.jpg", "a/1.jpg"]


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "1.jpg").touch()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("a"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    first, second = folders.images_in(folder)
    assert (first.name, first.problem) == ("a", "the folder cannot be listed (Permission denied)")
    assert second.name == "b/1.jpg" and not second.problem


def test_the_datasets_class_list_gives_nouns(folder, tmp_path, refuses):
    found = {item.facts.class_word for item in folders.images_in(PHOTOS)}
    assert found == {"cat", "toy"}
    (folder / "prompts_and_classes.txt").write_text("no list")
    assert "prompts_and_classes.txt" in refuses(folders.images_in, folder)


def test_a_list_decides_what_is_read_and_in_which_order(folder):
    lines = [
        {"file_name": "z/1.jpg", "identity": "rex", "class": "dog", "mask": "m/1.png", "licence": "CC0"},
        {"file_name": "a.jpg"},
    ]
    (folder / "b.jpg").touch()
    (folder / "metadata.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    first, second = folders.images_in(folder)
    assert (first.name, first.facts) == ("z/1.jpg", Facts("rex", "dog", None, "CC0"))
    assert first.image and first.mask and (first.image.path, first.mask.path) == (folder / "z/1.jpg", folder / "m/1.png")
    assert (second.name, second.facts, second.mask) == ("a.jpg", Facts(), None)


def test_lines_that_cannot_be_used_are_named_and_the_others_go_on(folder):
    bad = ["{", "[]", "7", "{}", "[" * 9000]
    bad += [json.dumps({"file_name": name}) for name in (7, "../x.jpg", "/etc/x.jpg", "C:\\x.jpg", "x" * 200_000)]
    more = {"mask": "../../m.png"}, {"identity": 7}, {"class": "x" * 65}, {"class": "a\x1b[31m"}, {"licence": " "}
    bad += [json.dumps({"file_name": "a.jpg", **fact}) for fact in more]
    (folder / "metadata.jsonl").write_text("\n".join([*bad, '{"file_name": "good.jpg"}']))
    items = list(folders.images_in(folder))
    assert [bool(item.problem) for item in items] == [True] * len(bad) + [False]
    assert names(items) == [f"metadata.jsonl:{number}" for number in range(1, len(bad) + 1)] + ["good.jpg"]
    assert all(item.image is None for item in items[:-1])


@pytest.mark.parametrize("name", ["", "/x", "..", "a/../../x", "a\\..\\x", "\\x", "C:/x", "c:x", "a\0b"])
def test_paths_that_lead_elsewhere(name):
    assert not contained(name) and contained("a/b..c/d.jpg")


def write_tar(path, members, mode="w", end=True):
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_members_of_one_name_are_one_sample(tmp_path):
    members = [
        ("a/1.jpg", b"J"),
        ("a/1.mask.png", b"M"),
        ("a/1.json", b"{}"),
        ("a/1.cls", b"3"),
        ("a/2.PNG", b"P"),
        ("3.txt", b"T"),
        ("a/._2.jpg", b"R"),
    ]
    path = write_tar(tmp_path / "x.tar", members)
    first, second, third = tars.images_in([path])
    assert names([first, second, third]) == ["x.tar/a/1", "x.tar/a/2", "x.tar/3"]
    assert [blob and blob.read(9) for blob in (first.image, first.mask, first.notes)] == [b"J", b"M", b"{}"]
    assert second.image and second.image.read(9) == b"P" and second.mask is None
    assert third.problem == "the sample has no image"


def test_links_devices_and_ways_out_are_refused_and_named(tmp_path):
    members = [
        ("../up.jpg", b"x"), ("/etc/abs.jpg", b"x"), (link("l.jpg", "/etc/passwd"), b""), (link("h.jpg", "1.jpg", tarfile.LNKTYPE), b""),
        (link("d.jpg", "", tarfile.CHRTYPE), b""), ("good.jpg", b"G"),
    ]  # fmt: skip
    items = list(tars.images_in([write_tar(tmp_path / "x.tar", members)]))
    assert [item.problem.startswith("refused") for item in items] == [True] * 5 + [False]
    assert items[-1].image and items[-1].image.read(9) == b"G"


def test_a_damaged_tar_is_named_and_the_next_one_is_read(tmp_path):
    members = [(f"{number}.jpg", bytes([65 + number]) * 3000) for number in range(4)]
    whole = write_tar(tmp_path / "a.tar", members).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:6000])  # cut within the second image
    header = bytearray(whole)
    header[2 * (512 + 3072) : 2 * (512 + 3072) + 512] = b"\xff" * 512
    (tmp_path / "b.tar").write_bytes(header)
    write_tar(tmp_path / "c.tar", members, "w:gz")
    write_tar(tmp_path / "d.tar", members[:1])
    (tmp_path / "e.tar").touch()
    items = list(tars.images_in(sorted(tmp_path.glob("*.tar"))))
    assert names(item for item in items if item.problem) == ["a.tar", "b.tar", "c.tar", "e.tar"]
    # of the sample before the damage more members may have followed, so it is not offered either
    assert names(item for item in items if not item.problem) == ["a.tar/0", "b.tar/0", "d.tar/0"]


def test_a_member_that_claims_more_than_there_is(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("1.jpg", b"x" * 2000)])
    (item,) = [item for item in tars.images_in([path]) if item.image]
    os.truncate(path, 1000)
    with pytest.raises(LeftOut, match="ends too early"):
        item.image.read(5000)
    with pytest.raises(LeftOut, match="more than 100 bytes"):
        item.image.read(100)


def test_what_a_source_may_be(folder, tmp_path, refuses):
    (folder / "1.jpg").touch()
    assert names(open_source([folder])) == ["1.jpg"]
    for name in ("b.tar", "a.tar"):
        write_tar(folder / name, [("1.jpg", b"")])
    assert names(open_source([folder])) == ["a.tar/1", "b.tar/1"]
    assert names(open_source([folder / "b.tar"])) == ["b.tar/1"]
    for paths in ([tmp_path / "none"], [folder, folder], [folder / "1.jpg"], [folder / "a.tar", tmp_path / "none.tar"]):
        assert "expected one folder" in refuses(open_source, paths)
