"""What a refinement costs at Stable Diffusion 1.5's true size, beside the methods it is compared with.

    python -m benchmarks.refine_sd15 --threads 1          # float32 on the CPU: about an hour on one free core, 14 GB
    python -m benchmarks.refine_sd15 --device cuda        # bfloat16
    python -m benchmarks.refine_sd15 --quick --out /tmp/trial.json

writes benchmarks/results/refine_sd15.json (of another device: refine_sd15_cuda.json). Weights are random, at the true layout, 512 x 512
pixels, one row a step unless said otherwise; the autoencoder has no part. Every timed step is followed by a bare pass, the forward and
backward pass of diffusers' own UNet, and by large matrix products. On the CPU processor time is measured, so that other work on the
machine does not count; with `--threads 1` it is the time that a step takes on a free core. Every row is measured in a process of its own
and stored when it is done, so a stopped run continues where it stopped; `--again` measures rows a second time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from .main_job import import_seconds
from .provenance import RESULTS, ROOT, command_line, commit
from .sd15.rows import ONLY_ON_GPU, ROWS, Setting
from .sd15.summary import subjects, verdicts
from .sd15.world import QUICK, SD15, new_world

REPEATS, QUICK_REPEATS = 3, 2


def measure_here(name: str, device: torch.device, quick: bool, repeats: int) -> dict:
    """One row, in this process."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    sizes, side = (QUICK, 256) if quick else (SD15, 2048 if device.type == "cpu" else 8192)
    torch.manual_seed(0)
    title, row = ROWS[name]
    return {"title": title} | row(Setting(new_world(sizes, device, dtype), dtype, repeats, side))


def measure_apart(name: str, options: argparse.Namespace) -> dict:
    """The same in a process of its own, whose peak of memory is the row's."""
    command = [sys.executable, "-m", "benchmarks.refine_sd15", "--row", name, "--device", options.device, "--threads", str(options.threads)]
    command += ["--repeats", str(options.repeats)] + (["--quick"] if options.quick else [])
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        return {"title": ROWS[name][0], "left_out": f"it failed: {(done.stderr.strip().splitlines() or ['no message'])[-1][:300]}"}
    row = json.loads(done.stdout.splitlines()[-1]) | {"commit": commit()}
    return row if load is None else row | {"load_before": round(load, 2)}


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What must be equal for rows to stand in one file."""
    import diffusers
    import transformers

    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "transformers": transformers.__version__}
    if options.device == "cuda":
        return {"processor": torch.cuda.get_device_name(), "dtype": "bfloat16", "quick": options.quick, "versions": versions}
    listing = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in listing.read_text().splitlines() if line.startswith("model name")]
        if listing.exists()
        else []
    )
    return {
        "processor": names[0] if names else platform.processor(), "architecture": platform.machine(), "threads": options.threads,
        "dtype": "float32", "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "quick": options.quick, "versions": versions,
    }  # fmt: skip


def host_seconds() -> dict[str, float] | None:
    """What the pack adds to ComfyUI's start, if there is one at COMFYUI_PATH."""
    path = Path(os.environ.get("COMFYUI_PATH", Path.home() / "comfy/ComfyUI"))
    if not (path / "nodes.py").exists():
        return None
    imported, registered = import_seconds(path)
    return {"import_seconds": imported, "import_and_register_seconds": registered}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="a trial at tiny sizes")
    parser.add_argument("--repeats", type=int, help="timed runs of every row")
    parser.add_argument("--only", help="these rows, by commas")
    parser.add_argument("--again", action="store_true", help="measure rows a second time that are there")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)  # the child's side of `measure_apart`
    options = parser.parse_args()
    options.repeats = options.repeats or (QUICK_REPEATS if options.quick else REPEATS)
    options.out = options.out or RESULTS / ("refine_sd15.json" if options.device == "cpu" else f"refine_sd15_{options.device}.json")
    return options


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.row:
        print(json.dumps(measure_here(options.row, torch.device(options.device), options.quick, options.repeats)))
        return
    setting = machine(options)
    stored = json.loads(options.out.read_text()) if options.out.exists() else {}
    rows = stored.get("rows", {}) if stored.get("machine") == setting else {}
    host = stored.get("host") if rows else None
    everywhere = options.device != "cpu" or options.quick
    wanted = options.only.split(",") if options.only else [name for name in ROWS if everywhere or name not in ONLY_ON_GPU]

    def write() -> None:
        ordered = {name: rows[name] for name in ROWS if name in rows}
        result = {
            "command": command_line("refine_sd15"),
            "machine": setting,
            "rows": ordered,
            "subjects": subjects(ordered),
            "host": host,
            "verdicts": verdicts(ordered, options.device, host),
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n")

    for name in wanted:
        if name in rows and "left_out" not in rows[name] and not options.again:
            continue
        print(name, "...", flush=True)
        rows[name] = measure_apart(name, options)
        print(json.dumps(rows[name]), flush=True)
        write()
    if not options.quick and (host is None or options.again):
        host = host_seconds()
    write()


if __name__ == "__main__":
    main()
