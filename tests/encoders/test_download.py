"""Downloads from a local server that acts as the hub, through huggingface_hub."""

from __future__ import annotations

import hashlib
import inspect
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save

from hybridbooth_core.encoders.catalogue import DINOV2_S
from hybridbooth_core.encoders.download import download_encoder

hub, hub_settings = pytest.importorskip("huggingface_hub"), pytest.importorskip("huggingface_hub.constants")

CONTENT = save({name: torch.zeros(shape, dtype=torch.float16) for name, shape in DINOV2_S.signature.items()})
ENTRY = replace(DINOV2_S, sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))
PATH = f"/{ENTRY.id}/resolve/{ENTRY.revision}/{ENTRY.filename}"


class Handler(BaseHTTPRequestHandler):
    """The endpoints of the hub that a download of one file uses."""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        state = self.server.state
        state.requests[self.command, self.path] += 1
        if self.path != PATH:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = state.content[: state.sent] if with_body else state.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(state.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", ENTRY.revision)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """A hub with the file; `requests` counts requests, `content` and `sent` (its bytes) can be changed."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.state = SimpleNamespace(requests=Counter(), content=CONTENT, sent=None)
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{running.server_port}/")  # with a slash, as users write it
    monkeypatch.setattr(hub_settings, "HF_HUB_OFFLINE", False)
    yield running.state
    running.shutdown()
    running.server_close()
    thread.join()


reports_progress = pytest.mark.skipif(
    "tqdm_class" not in inspect.signature(hub.hf_hub_download).parameters, reason="huggingface_hub reports progress since 1.0"
)


def left_in(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@reports_progress
def test_a_file_arrives_with_progress(server, tmp_path):
    told = []
    path = download_encoder(ENTRY, tmp_path / "models" / "hybridbooth", lambda done, total: told.append((done, total)))
    assert path.read_bytes() == CONTENT and left_in(path.parent) == [ENTRY.saved_as]
    assert ("GET", PATH) in server.requests
    assert told[-1] == (len(CONTENT), len(CONTENT)) and [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    (tmp_path / ENTRY.saved_as).write_bytes(CONTENT)
    assert download_encoder(ENTRY, tmp_path) == tmp_path / ENTRY.saved_as and not server.requests


def test_another_file_of_that_name_is_kept(server, tmp_path, refuses):
    (tmp_path / ENTRY.saved_as).write_bytes(b"precious")
    assert "rename that file" in refuses(download_encoder, ENTRY, tmp_path)
    assert (tmp_path / ENTRY.saved_as).read_bytes() == b"precious" and not server.requests


def test_a_wrong_hash_is_refused(server, tmp_path, refuses):
    server.content = CONTENT[:-1] + b"\x01"
    assert "sha256" in refuses(download_encoder, ENTRY, tmp_path)
    server.content = CONTENT[:-1]
    assert f"{len(CONTENT) - 1} bytes" in refuses(download_encoder, ENTRY, tmp_path)
    assert not left_in(tmp_path)


def test_a_partial_file_is_deleted(server, tmp_path, refuses):
    server.sent = len(CONTENT) // 2
    assert "was not downloaded" in refuses(download_encoder, ENTRY, tmp_path)
    assert not left_in(tmp_path)


def test_a_hub_that_does_not_have_it(server, tmp_path, refuses):
    message = refuses(download_encoder, replace(ENTRY, revision="0" * 40), tmp_path)
    assert "does not have it" in message and "any name" in message and not left_in(tmp_path)


def test_a_hub_that_cannot_be_reached(server, tmp_path, refuses, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the hub's client tries for half a minute
    assert "cannot be reached" in refuses(download_encoder, ENTRY, tmp_path) and not left_in(tmp_path)


class Stop(Exception):
    """Like ComfyUI's interrupt exception."""


@reports_progress
@pytest.mark.parametrize("kind", [Stop, KeyboardInterrupt])
def test_stopping(server, tmp_path, kind):
    def stop(done, total):
        raise kind

    with pytest.raises(kind):
        download_encoder(ENTRY, tmp_path, stop)
    assert not left_in(tmp_path)


def test_no_room(server, tmp_path, refuses, monkeypatch):
    import errno

    assert "free some space" in refuses(download_encoder, replace(ENTRY, size=1 << 60), tmp_path) and not server.requests

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub, "hf_hub_download", full)
    assert "No space left" in refuses(download_encoder, ENTRY, tmp_path) and not left_in(tmp_path)


def test_a_folder_that_cannot_be_made(server, tmp_path, refuses):
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be written" in refuses(download_encoder, ENTRY, tmp_path / "file" / "hybridbooth")


def test_without_the_hubs_package(server, tmp_path, refuses, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install huggingface_hub" in refuses(download_encoder, ENTRY, tmp_path) and not left_in(tmp_path)


def test_an_early_hub_shows_its_own_progress_only(server, tmp_path, monkeypatch):
    late = hub.hf_hub_download

    def early(repo_id, filename, *, revision=None, local_dir=None, endpoint=None):  # what this uses of huggingface_hub 0.26
        return late(repo_id, filename, revision=revision, local_dir=local_dir, endpoint=endpoint)

    monkeypatch.setattr(hub, "hf_hub_download", early)
    assert download_encoder(ENTRY, tmp_path, lambda done, total: None).read_bytes() == CONTENT


@pytest.mark.parametrize("offline", ["1", "0"])
def test_the_environment_is_honoured(server, tmp_path, offline):
    """In a process of its own: the hub's client reads its settings when it is imported."""
    script = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from hybridbooth_core.encoders.catalogue import DINOV2_S\n"
        "from hybridbooth_core.encoders.download import download_encoder\n"
        "entry = replace(DINOV2_S, sha256=sys.argv[2], size=int(sys.argv[3]))\n"
        "try: print(download_encoder(entry, Path(sys.argv[1])))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": offline, "HF_HOME": str(tmp_path / "home")}
    arguments = [sys.executable, "-c", script, str(tmp_path / "out"), ENTRY.sha256, str(ENTRY.size)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    if offline == "1":
        assert "UserError" in done.stdout and "HF_HUB_OFFLINE" in done.stdout and ENTRY.address in done.stdout, done
        assert not server.requests and not left_in(tmp_path / "out")
    else:
        assert done.stdout.strip() == str(tmp_path / "out" / ENTRY.saved_as) and ("GET", PATH) in server.requests, done
