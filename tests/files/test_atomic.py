"""A file is whole or not there, whatever ends its writing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hybridbooth_core.files import atomic as module
from hybridbooth_core.files.atomic import atomic, remove_partials, write_atomic


def full(*_, **__):
    raise OSError(28, "No space left on device")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_made_and_replaced(durable, tmp_path):
    path = tmp_path / "file"
    write_atomic(path, "grün \u2028", durable)
    assert files(tmp_path) == {"file": "grün \u2028".encode()}
    with atomic(path, durable) as file:
        file.write(b"new")
        assert path.read_text(encoding="utf-8") == "grün \u2028", "the old one stays until the new one is whole"
    assert files(tmp_path) == {"file": b"new"}


@pytest.mark.parametrize("where", ["os.fsync", "os.replace", "os.open"])
def test_a_disk_that_refuses_changes_nothing(where, tmp_path, monkeypatch):
    write_atomic(tmp_path / "file", b"old")
    monkeypatch.setattr(f"hybridbooth_core.files.atomic.{where}", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "file", b"new", durable=True)
    monkeypatch.undo()
    assert files(tmp_path) == {"file": b"new" if where == "os.open" else b"old"}, "os.open is for the folder, after the rename"


def test_an_exception_while_it_is_written_changes_nothing(tmp_path):
    write_atomic(tmp_path / "file", b"old")
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "file") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert files(tmp_path) == {"file": b"old"}


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    for path in (tmp_path / "none" / "file", tmp_path / "file" / "inner", tmp_path / "folder"):
        with pytest.raises(OSError):
            write_atomic(path, b"new")
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "folder", "kept"}


def test_only_a_disk_without_room_is_felt_at_the_end_of_the_block(tmp_path):
    """No file of this process may be longer than 1000 bytes: a small write is buffered and refused when the file is closed."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_atomic(tmp_path / "file", b"old")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            write_atomic(tmp_path / "file", bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert files(tmp_path) == {"file": b"old"}


KILLED = """
import os, signal, sys
from pathlib import Path
from hybridbooth_core.files.atomic import atomic
with atomic(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_kill_leaves_the_old_file_and_a_hidden_one_that_can_be_removed(tmp_path):
    write_atomic(tmp_path / "file", b"old")
    root = str(Path(module.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "file")], env=os.environ | {"PYTHONPATH": root})
    assert done.returncode == -signal.SIGKILL
    hidden = [name for name in files(tmp_path) if name != "file"]
    assert len(hidden) == 1 and hidden[0].startswith(".file.") and hidden[0].endswith(".partial")
    assert (tmp_path / "file").read_bytes() == b"old"
    remove_partials(tmp_path)
    assert files(tmp_path) == {"file": b"old"}


def test_several_writers_of_one_path_each_write_a_whole_file(tmp_path):
    contents = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=write_atomic, args=(tmp_path / "file", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(files(tmp_path)) == ["file"] and (tmp_path / "file").read_bytes() in contents


@pytest.mark.skipif(os.name == "nt", reason="needs permission bits")
def test_others_may_read_it_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
