"""Downloads from a local server that acts as the hub: whole, stopped, resumed, stalled, wrong."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save

from hybridbooth_core.encoders import download
from hybridbooth_core.encoders.catalogue import DINOV2_S
from hybridbooth_core.encoders.download import download_encoder

CONTENT = save({name: torch.zeros(shape, dtype=torch.float16) for name, shape in DINOV2_S.signature.items()})
ENTRY = replace(DINOV2_S, sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))
PATH = f"/{ENTRY.id}/resolve/{ENTRY.revision}/{ENTRY.filename}"
PART = f".{ENTRY.saved_as}.part"


class Handler(BaseHTTPRequestHandler):
    """Answers requests for the one file, also for a range of it."""

    def do_GET(self):
        state = self.server.state
        state.ranges.append(self.headers.get("Range"))
        if self.path == "/elsewhere":
            start = 0
        elif self.path != PATH:
            return self.send_error(404)
        elif state.redirects:
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        asked = self.headers.get("Range") if state.takes_ranges else None
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        body = state.content[start:][: state.sent]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(state.content) - start))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        state.stalled.wait(20)
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """A hub with the file; `sent` bytes of each answer arrive, then the connection ends, or with `stalled` cleared stands still."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    running.state = SimpleNamespace(ranges=[], content=CONTENT, sent=None, takes_ranges=True, redirects=False, stalled=threading.Event())
    running.state.stalled.set()
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{running.server_port}/")  # with a slash, as users write it
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(download, "POLL", 0.02)
    yield running.state
    running.state.stalled.set()
    running.shutdown()
    running.server_close()
    thread.join()


def left_in(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("redirects", [False, True])
def test_a_file_arrives_with_progress(server, tmp_path, redirects):
    server.redirects = redirects
    told = []
    path = download_encoder(ENTRY, tmp_path / "models" / "hybridbooth", lambda done, total: told.append((done, total)))
    assert path.read_bytes() == CONTENT and left_in(path.parent) == [ENTRY.saved_as]
    assert told[-1] == (len(CONTENT), len(CONTENT)) and [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    (tmp_path / ENTRY.saved_as).write_bytes(CONTENT)
    assert download_encoder(ENTRY, tmp_path) == tmp_path / ENTRY.saved_as and not server.ranges


def test_another_file_of_that_name_is_kept(server, tmp_path, refuses):
    (tmp_path / ENTRY.saved_as).write_bytes(b"precious")
    assert "rename that file" in refuses(download_encoder, ENTRY, tmp_path)
    assert (tmp_path / ENTRY.saved_as).read_bytes() == b"precious" and not server.ranges


def test_a_wrong_hash_is_refused_and_deleted(server, tmp_path, refuses):
    server.content = CONTENT[:-1] + b"\x01"
    assert "sha256" in refuses(download_encoder, ENTRY, tmp_path)
    assert not left_in(tmp_path)


@pytest.mark.parametrize("takes_ranges", [True, False], ids=["resumed", "server without ranges"])
def test_a_download_that_broke_off_goes_on(server, tmp_path, refuses, takes_ranges):
    server.sent, server.takes_ranges = len(CONTENT) // 3, takes_ranges
    assert "are kept" in refuses(download_encoder, ENTRY, tmp_path)
    assert left_in(tmp_path) == [PART] and (tmp_path / PART).read_bytes() == CONTENT[: server.sent]
    server.sent = None
    assert download_encoder(ENTRY, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT) // 3}-"] and left_in(tmp_path) == [ENTRY.saved_as]


def test_a_whole_file_that_was_not_checked_yet_needs_no_network(server, tmp_path):
    (tmp_path / PART).write_bytes(CONTENT)
    assert download_encoder(ENTRY, tmp_path).read_bytes() == CONTENT and not server.ranges


def test_a_hub_that_does_not_have_it(server, tmp_path, refuses):
    message = refuses(download_encoder, replace(ENTRY, revision="0" * 40), tmp_path)
    assert "does not have it" in message and "any name" in message and not left_in(tmp_path)


def test_a_hub_that_cannot_be_reached(server, tmp_path, refuses, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert "cannot be reached" in refuses(download_encoder, ENTRY, tmp_path) and not left_in(tmp_path)


class Stop(Exception):
    """Like ComfyUI's interrupt exception."""


@pytest.mark.parametrize("kind", [Stop, KeyboardInterrupt])
def test_stopping_is_at_once_although_nothing_arrives_and_nothing_is_written_afterwards(server, tmp_path, kind):
    server.sent = len(CONTENT) // 2
    server.stalled.clear()

    def stop(done, total):
        if done == server.sent:
            raise kind

    began = time.monotonic()
    with pytest.raises(kind):
        download_encoder(ENTRY, tmp_path, stop)
    assert time.monotonic() - began < download.STALL / 2, "it waited for the network"
    server.stalled.set()
    time.sleep(0.1)
    assert (tmp_path / PART).stat().st_size == server.sent
    server.sent = None
    assert download_encoder(ENTRY, tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={len(CONTENT) // 2}-"


def test_no_room(server, tmp_path, refuses):
    assert "free some space" in refuses(download_encoder, replace(ENTRY, size=1 << 60), tmp_path) and not server.ranges


def test_a_folder_that_cannot_be_made(server, tmp_path, refuses):
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be written" in refuses(download_encoder, ENTRY, tmp_path / "file" / "hybridbooth")


@pytest.mark.parametrize("offline", ["1", "0"])
def test_the_environment_is_honoured(server, tmp_path, offline):
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
        assert not server.ranges and not left_in(tmp_path / "out")
    else:
        assert done.stdout.strip() == str(tmp_path / "out" / ENTRY.saved_as) and len(server.ranges) == 1, done
