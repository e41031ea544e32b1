"""A real ComfyUI beside the tests, as a process of its own; without one they are skipped.

`$COMFYUI_PATH` says where it is (default: ~/comfy/ComfyUI), `$COMFYUI_PYTHON` with which Python it runs (default: its own .venv).
A folder beside it of the same name and "-0.8.0" is tested as well: the oldest host that the pack supports.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .checkpoints import write_checkpoint
from .comfy import Host, Installation, find_installations

FOUND = find_installations()
NONE = [pytest.param(None, id="no host")]


def _of(request: pytest.FixtureRequest) -> Installation:
    if request.param is None:
        pytest.skip("no ComfyUI found: set COMFYUI_PATH to a checkout of it, and COMFYUI_PYTHON if that has no .venv")
    return request.param


@pytest.fixture(scope="session", params=FOUND or NONE, ids=lambda found: found.path.name if found else "no host")
def installation(request: pytest.FixtureRequest) -> Installation:
    """Where a ComfyUI is, not started."""
    return _of(request)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory):
    """The smallest Stable Diffusion 1.5 checkpoint that stock nodes load, with random weights: `sd15.safetensors`, alone in its folder."""
    path = write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "sd15.safetensors")
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def host(installation: Installation, tmp_path_factory: pytest.TempPathFactory):
    """The same ComfyUI, running with this pack and with empty folders of its own."""
    pack = Path(os.path.realpath(__file__)).parents[2]
    running = Host(installation, tmp_path_factory.mktemp("host"), pack)
    try:
        running.start()
        yield running
    finally:
        running.stop()
