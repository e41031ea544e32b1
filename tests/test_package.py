"""The package from outside: a light import, and one version for all who ask."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import hybridbooth_core

ROOT = Path(__file__).parents[1]


def imported(statement: str, module: str) -> bool:
    """Whether a new Python that runs the statement has imported the module."""
    script = f"{statement}\nimport sys; print({module!r} in sys.modules)"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "True"


def test_importing_the_package_does_not_import_torch():
    assert not imported("import hybridbooth_core; hybridbooth_core.__version__; dir(hybridbooth_core)", "torch")
    assert imported("import torch", "torch")


@pytest.mark.parametrize(("module", "said"), [("hybridbooth_core", "personalize"), ("hybridbooth_core.training", "--steps")])
def test_python_runs_the_command(module: str, said: str):
    pytest.importorskip("tyro")
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said in done.stdout


def test_pip_and_the_comfy_registry_read_the_packages_own_version():
    project = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"] and "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "hybridbooth_core.__version__"}
    file = ROOT / project["tool"]["comfy"]["version"]["path"]
    assert file.samefile(hybridbooth_core.__file__)
    found = re.findall(r'^__version__ = "(\d+\.\d+\.\d+)"$', file.read_text(encoding="utf-8"), re.MULTILINE)  # as comfy-cli looks for it
    assert found == [hybridbooth_core.__version__]


def test_the_changelog_begins_with_this_version():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == hybridbooth_core.__version__
