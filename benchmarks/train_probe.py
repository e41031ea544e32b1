"""What training a probe costs at Stable Diffusion 1.5's true size.

    python -m benchmarks.train_probe                      # float32 on the CPU: about a quarter of an hour on two free cores, 20 GB
    python -m benchmarks.train_probe --device cuda        # bfloat16
    python -m benchmarks.train_probe --quick --out /tmp/trial.json

writes benchmarks/results/train_probe.json (of another device: train_probe_cuda.json). Weights are random, at the true layout, 512 x 512
pixels; shards are made of made-up images. Steps are those of the trainer itself. Every row is measured in a process of its own and
stored when it is done, so a stopped run continues where it stopped; `--again` measures rows a second time. `floor_fraction` and
`ratio_to_bare`: see benchmarks/sd15/measure.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from .provenance import RESULTS, ROOT, command_line, commit
from .refine_sd15 import machine
from .sd15.rows import Setting
from .sd15.training import ROWS, scaling_child
from .sd15.world import QUICK, SD15, new_world

SAMPLES = 640_000  # of the paper
SCALING = "scaling"
MODULE = "benchmarks.train_probe"


def new_setting(device: torch.device, quick: bool, repeats: int) -> Setting:
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    sizes, side = (QUICK, 256) if quick else (SD15, 2048 if device.type == "cpu" else 8192)
    torch.manual_seed(0)
    return Setting(new_world(sizes, device, dtype), dtype, repeats, side)


def child(command: list[str], threads: int) -> dict[str, Any]:
    """What a process of its own prints last, with the load that it found."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, cwd=ROOT)
    if done.returncode:
        return {"left_out": f"it failed: {(done.stderr.strip().splitlines() or ['no message'])[-1][:300]}"}
    row = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
    row |= {"commit": commit()}
    return row if load is None else row | {"load_before": round(load, 2)}


def measure_apart(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """A row in a process of its own, whose peak of memory is the row's."""
    rest = ["--device", options.device, "--threads", str(options.threads), "--repeats", str(options.repeats)]
    rest += ["--quick"] if options.quick else []
    if name != SCALING:
        return {"title": ROWS[name][0]} | child([sys.executable, "-m", MODULE, "--row", name, *rest], options.threads)
    found = {}
    for count in (1, 2):
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
        found[count] = child([*launch, "-m", MODULE, "--row", SCALING, *rest], 1)
    row = {"title": "batch of 2 on 1 and on 2 processes, one thread each", "one": found[1], "two": found[2]}
    if all("seconds" in one for one in found.values()):
        row["speedup"] = round(found[1]["seconds"]["median"] / found[2]["seconds"]["median"], 3)
        row["losses_differ_by"] = max(abs(a - b) for a, b in zip(found[1]["losses"], found[2]["losses"], strict=True))
    return row


def verdicts(rows: dict[str, dict[str, Any]], device: str) -> list[dict[str, Any]]:
    """The project's aims beside what was measured: `least` must be reached, `aim` is hoped for."""
    found: list[dict[str, Any]] = []

    def add(what: str, value: float | None, least: float, aim: float, higher: bool) -> None:
        if value is None:
            return
        good = (value >= least, value >= aim) if higher else (value < least, value < aim)
        found.append({"what": what, "value": value, "higher": higher, "least": least, "aim": aim, "least_met": good[0], "aim_met": good[1]})

    least = 0.35 if device == "cpu" else 0.3
    for name in ("consumer", "promptnet", "images"):
        title = ROWS[name][0].removesuffix(": step of 1 row")
        add(f"floor_fraction of a training step, {title}", rows.get(name, {}).get("floor_fraction"), least, 0.5, True)
        add(f"share of the time waiting for data, {title}", rows.get(name, {}).get("waiting_for_data"), 0.10, 0.02, False)
        if device != "cpu":
            add(f"hours for 640k samples, {title}", rows.get(name, {}).get("hours_for_640k_samples"), 8, 2, False)
    memory = rows.get("consumer_recipe", {}).get("peak_memory_gb", {})
    add("GB of the consumer recipe, estimated", memory.get("estimate"), 8, 8, False)
    add("GB of the consumer recipe, measured", memory.get("process" if device == "cpu" else "device"), 8, 8, False)
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="a trial at tiny sizes")
    parser.add_argument("--repeats", type=int, help="timed runs of every row")
    parser.add_argument("--only", help="these rows, by commas")
    parser.add_argument("--again", action="store_true", help="measure rows a second time that are there")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--row", choices=(*ROWS, SCALING), help=argparse.SUPPRESS)  # the child's side of `child`
    options = parser.parse_args()
    options.repeats = options.repeats or (2 if options.quick else 3)
    options.out = options.out or RESULTS / ("train_probe.json" if options.device == "cpu" else f"train_probe_{options.device}.json")
    return options


def run_row(options: argparse.Namespace) -> dict[str, Any] | None:
    setting = new_setting(torch.device(options.device), options.quick, options.repeats)
    return scaling_child(setting, options.repeats) if options.row == SCALING else ROWS[options.row][1](setting)


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.row:
        if (row := run_row(options)) is not None:
            print(json.dumps(row))
        return
    setting = machine(options)
    stored = json.loads(options.out.read_text()) if options.out.exists() else {}
    rows = stored.get("rows", {}) if stored.get("machine") == setting else {}
    names = [*ROWS, SCALING] if options.device == "cpu" else list(ROWS)
    for name in options.only.split(",") if options.only else names:
        if name in rows and "left_out" not in rows[name] and not options.again:
            continue
        print(name, "...", flush=True)
        rows[name] = measure_apart(name, options)
        print(json.dumps(rows[name]), flush=True)
        ordered = {known: rows[known] for known in names if known in rows}
        result = {
            "command": command_line("train_probe"),
            "machine": setting,
            "samples": SAMPLES,
            "rows": ordered,
            "verdicts": verdicts(ordered, options.device),
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
