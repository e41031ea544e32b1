"""Stable Diffusion 1.5 at its true size, the same checkpoint through diffusers and through ComfyUI's stock loader."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .checkpoints import FULL, write_checkpoint
from .comfy import Installation

SCRIPT = Path(__file__).parent / "inside" / "parity_sd15.py"
DISK, MEMORY = 3 << 30, 12 << 30
TOLERANCES = {"columns": 0.0, "latents": 0.0, "refined": 1e-3}  # Adam turns the smallest differences of a gradient into steps
TOLERANCE = 1e-5


def _free_memory() -> int:
    """Bytes; where the system does not tell, enough is assumed."""
    told = Path("/proc/meminfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")), MEMORY)


@pytest.fixture(scope="module")
def full_checkpoint(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("full")
    if shutil.disk_usage(folder).free < DISK or _free_memory() < MEMORY:
        pytest.skip(f"a full checkpoint needs {DISK >> 30} GB of disk and {MEMORY >> 30} GB of memory to compare")
    path = write_checkpoint(folder / "sd15.safetensors", layout=FULL)
    yield path
    path.unlink()


@pytest.mark.timeout(900)
def test_diffusers_and_comfyui_agree_on_a_full_checkpoint(installation: Installation, full_checkpoint: Path):
    if not installation.has("diffusers"):
        pytest.skip(f"{installation.python} has no diffusers to compare with; pip install diffusers there")
    found = json.loads(installation.run(SCRIPT, str(full_checkpoint), timeout=850).strip().splitlines()[-1])
    assert {"context", "noise", "loss", "gradient", "refined", "validation"} <= found.keys()
    assert sum(key.startswith("map ") for key in found) == 11  # of 16 cross-attentions, without the finest level's five
    assert all(value <= TOLERANCES.get(key, TOLERANCE) for key, value in found.items()), found
