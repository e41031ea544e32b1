"""The host installs requirements.txt, and a registry of nodes the project's dependencies: both must say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_both_lists_are_the_same_and_pin_nothing():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    project = re.search(r"^dependencies = (\[.*?\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert project and ast.literal_eval(project[1]) == required
    assert all(re.fullmatch(r"[a-z0-9_-]+>=[0-9.]+", line) for line in required), "lower bounds only: the host's own versions stay"
    assert not {"torch", "transformers", "safetensors"} & {line.partition(">")[0] for line in required}
