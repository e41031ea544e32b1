"""A stranger's file: every structured mutation of a good one ends in a UserError, and a failed write leaves nothing behind."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hybridbooth_core.files.safetensors import MAX_HEADER, read_header, read_tensors, write_tensors

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)}
EXPECTED = {"a": [2, 3], "b": [-1]}
ENTRY_A = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
ENTRY_B = {"dtype": "F32", "shape": [4], "data_offsets": [24, 40]}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "file.safetensors"


def read(path: Path, max_bytes: int = 1 << 20):
    header, metadata = read_header(path, "test file", max_bytes)
    return read_tensors(path, "test file", header, EXPECTED), metadata


def write_raw(path: Path, header, data: bytes = bytes(40), length: int | None = None) -> None:
    """A file of this header (JSON, or bytes as they are), with a wrong length field if asked."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)


def test_what_is_written_is_read(path):
    write_tensors(path, TENSORS, {"key": "välue"})
    tensors, metadata = read(path)
    assert metadata == {"key": "välue"} and tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(TENSORS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32(path, dtype):
    save_file({name: tensor.to(dtype) for name, tensor in TENSORS.items()}, path)
    tensors, _ = read(path)
    assert all(tensors[name].dtype == torch.float32 and torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 10, 50, -41, -40, -39, -8, -1])
def test_a_truncated_file_is_refused(path, keep, refuses):
    write_tensors(path, TENSORS, {"key": "value"})
    path.write_bytes(path.read_bytes()[:keep])
    assert "file.safetensors" in refuses(read, path)


def test_a_file_with_more_behind_it_is_refused(path, refuses):
    write_tensors(path, TENSORS, {})
    path.write_bytes(path.read_bytes() + b"more")
    refuses(read, path)


@pytest.mark.parametrize("length", [0, 1, 3, MAX_HEADER + 1, 1 << 40, (1 << 64) - 1])
def test_an_absurd_header_length_is_refused(path, length, refuses):
    write_raw(path, {"a": ENTRY_A, "b": ENTRY_B}, length=length)
    refuses(read, path)


def test_a_header_above_the_cap_is_refused_before_it_is_read(path, refuses):
    write_raw(path, {"a": ENTRY_A, "b": ENTRY_B, "__metadata__": {"x": "y" * MAX_HEADER}})
    assert "complete" in refuses(read, path, 1 << 30)


@pytest.mark.parametrize(
    "header",
    [b"not json", b"{", b"\xff\xfe\x00\x01", b"[]", b"7", b"null", b'"text"', b"[" * 100_000, b'{"a":' * 100_000, b"{}" + bytes([0]) * 8,
     b'{"n": ' + b"9" * 5000 + b"}", b"PK\x03\x04" * 10],
    ids=["text", "open", "no utf8", "list", "number", "null", "string", "deep list", "deep table", "zeros behind", "huge number", "zip"],
)  # fmt: skip
def test_a_header_that_is_no_json_table_is_refused(path, header, refuses):
    write_raw(path, header)
    refuses(read, path)


@pytest.mark.parametrize("value", [7, None, [], {"k": 7}, {"k": None}, {"k": {}}, "text"], ids=repr)
def test_damaged_metadata_is_refused(path, value, refuses):
    write_raw(path, {"a": ENTRY_A, "b": ENTRY_B, "__metadata__": value})
    assert "metadata" in refuses(read, path)


@pytest.mark.parametrize(
    "entry",
    [None, 7, [], {}, "text", *(ENTRY_A | change for change in (
        {"shape": None}, {"shape": "2,3"}, {"shape": {}}, {"shape": [2]}, {"shape": [2, 3, 1]}, {"shape": [3, 2]}, {"shape": [2, -3]},
        {"shape": [2, "3"]}, {"shape": [2, 3.5]}, {"shape": [2, None]}, {"shape": [2, [3]]}, {"shape": [2, 1 << 70]}, {"shape": []},
        {"dtype": "I32"}, {"dtype": "F64"}, {"dtype": "BOOL"}, {"dtype": "F8_E4M3"}, {"dtype": "nothing"}, {"dtype": None},
        {"dtype": []}, {"dtype": {}}, {"dtype": 7}, {"dtype": "F16"},
        {"data_offsets": None}, {"data_offsets": [0]}, {"data_offsets": [24, 0]}, {"data_offsets": [0, 20]}, {"data_offsets": [-24, 0]},
        {"data_offsets": [8, 32]}, {"data_offsets": [0, 1 << 62]}, {"data_offsets": [0.0, 24.0]}, {"data_offsets": ["0", "24"]},
        {"extra": 1},
    ))],
    ids=repr,
)  # fmt: skip
def test_a_damaged_entry_is_refused(path, entry, refuses):
    """Except an extra field, which says nothing wrong: either a UserError or the right tensors."""
    write_raw(path, {"a": entry, "b": ENTRY_B})
    if isinstance(entry, dict) and "extra" in entry:
        try:
            assert read(path)[0]["a"].shape == (2, 3)
            return
        except ValueError:
            pass
    refuses(read, path)


@pytest.mark.parametrize(
    "raw",
    [
        f'{{"a": {json.dumps(ENTRY_A)}, "a": {json.dumps(ENTRY_A)}, "b": {json.dumps(ENTRY_B)}}}',
        f'{{"a": {json.dumps(ENTRY_A)[:-1]}, "dtype": "I32"}}, "b": {json.dumps(ENTRY_B)}}}',
        f'{{"a": {json.dumps(ENTRY_A)}, "b": {json.dumps(ENTRY_B)}, "__metadata__": {{}}, "__metadata__": {{}}}}',
    ],
    ids=["tensor", "field", "metadata"],
)
def test_a_key_that_stands_twice_is_refused(path, raw, refuses):
    write_raw(path, raw.encode())
    refuses(read, path)


def test_every_byte_of_the_header_may_be_wrong_without_any_other_exception(path):
    """Flips each byte in turn: the file is read as it should be, or there is a UserError. (A digit inside metadata may well be legal.)"""
    from hybridbooth_core.errors import UserError

    write_tensors(path, TENSORS, {"key": "value"})
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    refused = 0
    for place in range(header):
        for bit in (0, 4, 7):
            bad = bytearray(good)
            bad[place] ^= 1 << bit
            path.write_bytes(bytes(bad))
            try:
                tensors, _ = read(path)
                assert {name: tensor.shape for name, tensor in tensors.items()} == {"a": (2, 3), "b": (4,)}
            except UserError:
                refused += 1
    assert refused > header


@pytest.mark.parametrize("name", ["missing", "extra", "renamed"])
def test_other_tensors_than_expected_are_refused_by_name(path, name, refuses):
    tensors = dict(TENSORS)
    if name != "extra":
        tensors["c" if name == "renamed" else "a2"] = tensors.pop("b")
    else:
        tensors["c"] = torch.zeros(1)
    save_file(tensors, path)
    assert ("'c'" if name == "extra" else "'b'") in refuses(read, path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_on_both_ways(path, value, refuses):
    bad = TENSORS | {"b": torch.tensor([1.0, value])}
    assert "not finite" in refuses(write_tensors, path, bad, {})
    assert not list(path.parent.iterdir())
    save_file(bad, path)
    assert "not finite" in refuses(read, path)


def test_a_file_above_the_cap_is_refused(path, refuses):
    write_tensors(path, TENSORS, {})
    assert "at most 100" in refuses(read, path, 100)


@pytest.mark.parametrize("kind", ["nothing", "folder", "in a file", "null byte", "too long", "loop"])
def test_a_place_that_is_no_file_is_refused(path, kind, refuses):
    if kind == "folder":
        path.mkdir()
    elif kind == "in a file":
        path.write_bytes(b"x")
        path = path / "inner.safetensors"
    elif kind == "null byte":
        path = path.parent / "a\0b"
    elif kind == "too long":
        path = path.parent / ("n" * 300)
    elif kind == "loop":
        path.symlink_to(path)
    refuses(read, path)


def test_a_file_is_replaced_in_one_stroke(path):
    write_tensors(path, TENSORS, {})
    old = path.read_bytes()
    os.link(path, path.with_suffix(".other"))  # a second name of the old file: it must not change under its reader
    write_tensors(path, {"a": torch.zeros(3)}, {})
    assert path.with_suffix(".other").read_bytes() == old and path.read_bytes() != old
    assert sorted(p.name for p in path.parent.iterdir()) == ["file.other", "file.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("kind", ["no folder", "folder is a file", "a folder of that name", "disk full"])
def test_a_failed_write_is_one_sentence_and_leaves_nothing(path, kind, refuses, monkeypatch):
    target = path
    if kind == "no folder":
        target = path.parent / "none" / "file.safetensors"
    elif kind == "folder is a file":
        path.write_bytes(b"x")
        target = path / "inner.safetensors"
    elif kind == "a folder of that name":
        path.mkdir()
        (path / "kept").touch()
    else:
        path.write_bytes(b"the old one")

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("hybridbooth_core.files.atomic.os.replace", full)
    before = sorted(path.parent.rglob("*"))
    refuses(write_tensors, target, TENSORS, {})
    assert sorted(path.parent.rglob("*")) == before
    assert kind != "disk full" or path.read_bytes() == b"the old one"


def test_the_same_content_is_the_same_bytes_whatever_the_order(path):
    metadata = {f"key{i}": f"välue \u2028 {i}" for i in range(20)}
    write_tensors(path, TENSORS, metadata)
    first = path.read_bytes()
    write_tensors(path, dict(reversed(TENSORS.items())), dict(reversed(metadata.items())))
    assert path.read_bytes() == first and read(path)[1] == metadata
    assert int.from_bytes(first[:8], "little") % 8 == 0, "tensors are to lie at multiples of 8 bytes"


def test_views_are_written_as_they_look(path):
    wide = torch.arange(12.0).view(3, 4)
    write_tensors(path, {"a": wide.T[:2, :3], "b": wide[0].requires_grad_()}, {})
    tensors, _ = read(path)
    assert torch.equal(tensors["a"], wide.T[:2, :3]) and torch.equal(tensors["b"], wide[0])


def test_tensors_are_copies_that_outlive_their_file(tmp_path):
    """A file that is written over in place must not change what was read from it."""
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.ones(64, 1024)}, {})
    header, _ = read_header(path, "file", 1 << 30)
    found = [read_tensors(path, "file", header, {"a": [64, 1024]}, dtype=dtype)["a"] for dtype in (torch.float32, None)]
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 64 * 1024)
        file.write(bytes(64 * 1024))
        file.flush()
    assert all(torch.equal(tensor, torch.ones(64, 1024)) for tensor in found)
