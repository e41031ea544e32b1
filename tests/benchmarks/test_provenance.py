"""A result says truly where it comes from."""

from __future__ import annotations

import hashlib
import subprocess

from benchmarks import provenance
from hybridbooth_core.miniature.bundle import WEIGHTS


def git(folder, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_says_when_files_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit() == "unknown"
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    for file in (tmp_path / "code.py", results / "a.json"):
        file.write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "all")
    head = git(tmp_path, "rev-parse", "HEAD")[:10]
    (results / "a.json").write_text("2")
    (tmp_path / "new.txt").write_text("untracked")
    assert provenance.commit() == head
    (tmp_path / "code.py").write_text("2")
    assert provenance.commit() == f"{head}+"


def test_a_command_can_be_pasted():
    assert provenance.command_line("family", ["--methods", "a b"]) == "python -m benchmarks.family --methods 'a b'"


def test_the_shipped_probe_is_recognised():
    digest = hashlib.sha256((WEIGHTS / "probe.safetensors").read_bytes()).hexdigest()[:12]
    assert provenance.provenance("c")["probe"] == digest
    assert "with the shipped probe" in provenance.made_by({"command": "c", "commit": "1", "probe": digest})
    assert "with the probe `beef`" in provenance.made_by({"command": "c", "commit": "1", "probe": "beef"})
    assert provenance.made_by({"command": "c", "commit": "1"}) == "Made by `c` at commit `1`."
