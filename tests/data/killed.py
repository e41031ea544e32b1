"""Prepares the same images again and again, each time killed (SIGKILL) at another moment, then completed; prints what came of it.

Its own program, started by test_kill.py, so that it can fork: python killed.py SOURCE WORK.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

from hybridbooth_core.cli import main

SOURCE, WORK = Path(sys.argv[1]), Path(sys.argv[2])
STEPS = ("fsync", "replace", "unlink")


def prepare(out: Path) -> int:
    return main(["prepare", str(SOURCE), "--out", str(out), "--size", "64", "--shard-samples", "2", "--workers", "2"])


def die_at(moment: int) -> list[str]:
    """Count what the process asks of the disk; before the asked for number is done, it is killed."""
    done: list[str] = []

    def counted(name, function):
        def call(*args, **kwargs):
            if len(done) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(name)
            return function(*args, **kwargs)

        return call

    for name in STEPS:
        setattr(os, name, counted(name, getattr(os, name)))
    return done


def child(work) -> tuple[int, bool]:
    """Run a function in a process of its own. Returns its exit code, and whether it was killed."""
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(work() or 0)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), os.WIFSIGNALED(status)


def files(out: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}


def same(out: Path, whole: dict[str, tuple[bytes, int]]) -> bool:
    return {name: content for name, (content, _) in files(out).items()} == {name: content for name, (content, _) in whole.items()}


def resumed(out: Path, whole: dict[str, tuple[bytes, int]]) -> dict[str, bool]:
    """Complete a killed run, and say whether it made the same and left alone what was finished."""
    before = {name: entry for name, entry in files(out).items() if name.startswith("shard-")} if out.exists() else {}
    code, _ = child(lambda: prepare(out))
    after = files(out)
    return {"code": code == 0, "same": same(out, whole), "untouched": all(after[name] == entry for name, entry in before.items())}


def at_every_moment(whole: dict[str, tuple[bytes, int]]) -> list[dict]:
    results = []
    while True:
        out = WORK / f"moment-{len(results)}"
        moment = len(results)

        def run(out=out, moment=moment) -> int:
            die_at(moment)
            return prepare(out)

        _, killed = child(run)
        if not killed:
            return results
        results.append({"moment": moment, "shards": len(list(out.glob("shard-*"))) if out.exists() else 0, **resumed(out, whole)})


def by_the_clock(whole: dict[str, tuple[bytes, int]]) -> dict:
    """Killed again and again from outside, whenever another shard has come, until it is complete."""
    out, kills = WORK / "clock", 0
    while True:
        seen = len(list(out.glob("shard-*"))) if out.exists() else 0
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os._exit(prepare(out))
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if out.exists() and len(list(out.glob("shard-*"))) > seen:
                os.kill(pid, signal.SIGKILL)
                kills += 1
                os.waitpid(pid, 0)
                break
            time.sleep(0.001)
        if (out / "index.json").exists():
            child(lambda: prepare(out))
            return {"kills": kills, "same": same(out, whole)}


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        prepare(WORK / "whole")  # in this process, so that those it forks have everything loaded
    WHOLE = files(WORK / "whole")
    print(json.dumps({"files": sorted(WHOLE), "moments": at_every_moment(WHOLE), "clock": by_the_clock(WHOLE)}))
