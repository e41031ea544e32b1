"""ComfyUI installs requirements.txt: it lists only what ComfyUI lacks, and nothing that the project does not depend on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")
ROOT = Path(__file__).parents[2]


def lower_bound(requirement: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]+>=[0-9.]+", requirement) is not None


def test_comfyui_is_asked_for_timm_alone():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["timm>=1.0"]


def test_the_project_depends_on_it_too_and_pins_nothing():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert "timm>=1.0" in dependencies
    assert all(lower_bound(requirement) for requirement in dependencies), "lower bounds only: the user's own versions stay"
    assert not lower_bound("torch==2.6") and not lower_bound("torch>=2.6,<3")
