"""Checkpoints: written as a whole or not at all, kept by count, and read without executing anything."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch

from hybridbooth_core.training import checkpoint
from hybridbooth_core.training.checkpoint import checkpoint_path, checkpoints, load_checkpoint, locked, save_checkpoint


def state(value: float) -> dict:
    return {"probe": {"w": torch.full((5, 7), value)}, "window": [{"loss": 0.1}], "first": torch.ones(3), "note": "text"}


def save(folder: Path, *steps: int, keep: int = 3) -> None:
    for step in steps:
        save_checkpoint(folder, step, state(step), keep)


def steps_of(folder: Path) -> list[int]:
    return [step for step, _ in checkpoints(folder)]


def test_what_was_saved_comes_back(tmp_path):
    assert load_checkpoint(tmp_path) is None
    save(tmp_path, 7)
    found = load_checkpoint(tmp_path)
    assert torch.equal(found["probe"]["w"], state(7)["probe"]["w"]) and torch.equal(found["first"], torch.ones(3))
    assert (found["step"], found["window"], found["note"]) == (7, [{"loss": 0.1}], "text")


def test_the_newest_are_kept(tmp_path):
    save(tmp_path, 2, 4, 6, 8, keep=2)
    assert steps_of(tmp_path) == [8, 6]
    (tmp_path / "step-12.ckpt").write_bytes(b"none of ours")
    save(tmp_path, 10, keep=1)
    assert steps_of(tmp_path) == [10] and (tmp_path / "step-12.ckpt").exists()


def test_a_damaged_one_gives_way_to_the_one_before_and_pushes_no_good_one_out(tmp_path, caplog):
    save(tmp_path, 2, 4, 6)
    path = checkpoint_path(tmp_path, 6)
    for content in (b"", b"nothing of the kind", path.read_bytes()[:-500]):
        path.write_bytes(content)
        with caplog.at_level(logging.WARNING, "hybridbooth"):
            assert load_checkpoint(tmp_path)["step"] == 4
        assert "step-00000006.ckpt cannot be read" in caplog.text
    save(tmp_path, 5, keep=1)
    assert steps_of(tmp_path) == [6, 5] and load_checkpoint(tmp_path)["step"] == 5


def test_if_none_can_be_read_it_is_one_sentence(tmp_path, refuses):
    save(tmp_path, 2, 4)
    for _, path in checkpoints(tmp_path):
        path.write_bytes(b"")
    assert "none of the 2 checkpoints" in refuses(load_checkpoint, tmp_path)


def test_another_version_is_one_sentence(tmp_path, refuses, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 9)
    save(tmp_path, 2)
    monkeypatch.undo()
    assert "version 9" in refuses(load_checkpoint, tmp_path)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_nothing_in_a_file_is_executed(tmp_path, refuses, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": checkpoint.FORMAT, "version": 1, "step": 2, "probe": Malicious()}, checkpoint_path(tmp_path, 2))
    refuses(load_checkpoint, tmp_path)
    assert not (tmp_path / "executed").exists()


def refused(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "where", ["training.checkpoint.torch.save", "files.atomic.fsync", "files.atomic.os.replace", "files.atomic.fsync_folder"]
)
def test_a_full_disk_is_one_sentence_and_earlier_checkpoints_remain(where, tmp_path, refuses, monkeypatch):
    save(tmp_path, 2)
    content = checkpoint_path(tmp_path, 2).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(f"hybridbooth_core.{where}", refused)
        message = refuses(save, tmp_path, 4)
    assert "No space left" in message and str(tmp_path) in message and "free some space and use --resume" in message
    assert not list(tmp_path.glob("*.partial")) and checkpoint_path(tmp_path, 2).read_bytes() == content
    save(tmp_path, 4)
    assert load_checkpoint(tmp_path)["step"] == 4


def test_torch_hides_why_a_disk_refuses_but_the_message_says_it(tmp_path, refuses, monkeypatch):
    """torch's zip writer fails a second time over the first failure."""
    write = Path.open

    class Full:
        def __init__(self, file):
            self._file = file

        def write(self, content):
            if self._file.tell() > 1000:
                refused()
            return self._file.write(content)

        def __getattr__(self, name):
            return getattr(self._file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

    monkeypatch.setattr(Path, "open", lambda path, *a, **k: Full(write(path, *a, **k)))
    big = {"probe": torch.zeros(10_000)}
    assert "No space left" in refuses(save_checkpoint, tmp_path, 2, big, 3) and not checkpoints(tmp_path)


def test_what_a_killed_run_left_half_written_goes(tmp_path):
    for name in (".step-00000002.ckpt.0a1b2c3d.partial", "step-00000002.partial"):  # as this and the first version call it
        (tmp_path / name).write_bytes(b"half")
    assert load_checkpoint(tmp_path) is None
    save(tmp_path, 4)
    assert not list(tmp_path.glob("*.partial"))


def test_an_old_one_that_cannot_go_stays(tmp_path, monkeypatch, caplog):
    save(tmp_path, 2)
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **k: refused() if path.name == "step-00000002.ckpt" else unlink(path, **k))
    with caplog.at_level(logging.WARNING, "hybridbooth"):
        save(tmp_path, 4, keep=1)
    assert steps_of(tmp_path) == [4, 2] and "cannot be deleted" in caplog.text


def test_a_folder_is_held_by_one_at_a_time(tmp_path, refuses):
    folder = tmp_path / "new" / "run"

    def enter():
        with locked(folder):
            return folder.is_dir()

    with locked(folder):
        assert "another training is running" in refuses(enter)
        with locked(tmp_path / "other"):
            pass
    assert enter()


def test_where_there_are_no_locks_a_training_begins_all_the_same(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(checkpoint.FileLock, "acquire", lambda *_, **__: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    with caplog.at_level(logging.WARNING, "hybridbooth"), locked(tmp_path):
        assert "cannot be locked" in caplog.text
