"""Where a result comes from: the command, the commit and the probe that made it."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hybridbooth_core.miniature.bundle import WEIGHTS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"


def command_line(module: str, arguments: Sequence[str] | None = None) -> str:
    """The command as a user types it in the repository's root; `arguments` are those of this process by default."""
    return shlex.join(["python", "-m", f"benchmarks.{module}", *(sys.argv[1:] if arguments is None else arguments)])


def commit() -> str:
    """The checked-out commit, ten hex digits, with "+" if tracked files but results differ from it; "unknown" outside a git checkout."""
    try:
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
        return _git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def probe_digest(path: Path = WEIGHTS / "probe.safetensors") -> str:
    """The first twelve hex digits of a probe file's SHA-256; of the shipped probe by default."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def provenance(command: str) -> dict[str, str]:
    """The first entries of a result that the shipped probe has a part in."""
    return {"command": command, "commit": commit(), "probe": probe_digest()}


def made_by(result: dict) -> str:
    """One sentence on where a result comes from, for the page that shows it."""
    probe = result.get("probe")
    which = "" if probe is None else ", with the shipped probe" if probe == probe_digest() else f", with the probe `{probe}`"
    return f"Made by `{result['command']}` at commit `{result['commit']}`{which}."
