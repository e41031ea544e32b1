"""The whole bench: search, test, cost, results. Every part that is done is in the work folder and is not done again."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from hybridbooth_core import __version__
from hybridbooth_core.errors import UserError
from hybridbooth_core.files.atomic import write_atomic
from hybridbooth_core.miniature.bundle import load_miniature

from ..provenance import provenance
from .cost import COUNTED_STEPS, TERA, TIMED_STEPS, cost_at, measure_costs, peak_memory
from .plan import ENTRIES, Plan
from .pool import in_pool
from .rows import per_identity, result_rows, test_units
from .search import choose, search
from .store import Store
from .subjects import inputs_digest, shipped_mode
from .units import run_units
from .verdicts import claims, requirements


def run_bench(
    plan: Plan, work: Path, out: Path, jobs: int = 1, command: str = "python -m benchmarks.family", again: Sequence[str] = ()
) -> dict:
    """Measure everything that is not in `work` yet and write the results to `out` in one stroke.

    Args:
        again: methods whose units are measured a second time; "costs" for the costs.
    Raises:
        UserError: the work folder cannot be used, or a name in `again` is none.
    """
    for name in again:
        if name not in (*ENTRIES, "costs"):
            raise UserError(f"expected what to measure again out of {', '.join(ENTRIES)} and costs, found {name!r}")
    plan = replace(plan, mode=shipped_mode())
    store, workers = Store(work), in_pool(jobs)
    for name in again:
        for kept in ("costs", "memory") if name == "costs" else (name,):
            store.forget(kept)
    table = search(plan, store, workers)
    choices = choose(plan, table)
    scores = per_identity(run_units(plan, test_units(plan, choices), store, workers, "test"))
    costs = stored_costs(plan, store)
    memory = stored_memory(plan, store)
    by_key = {key: cost_at(costs, memory, *key) for key in scores}
    rows = result_rows(plan, scores, choices, by_key)
    result = {
        **provenance(command),
        "machine": machine(),
        "plan": plan.record(),
        "choices": choices,
        "search": table,
        "cost": {
            "operations": f"counted at {COUNTED_STEPS} steps and the line through them; a multiply-add is two",
            "seconds": f"median of {plan.repeats} on one thread at {TIMED_STEPS} steps and the line through them; methods alternate",
            "memory": "what a fresh process's resident size grows by at its peak, over what it is with the world loaded",
            "class_images_tflop": costs["class_images_tflop"],
            "class_images_note": f"{plan.prior_images} images a class, shared by all its subjects and in no row",
            "load_before_timing": costs["load_before"],
        },
        "rows": rows,
        "verdicts": requirements(scores, rows),
        "claims": claims(scores),
    }
    write_json(result, out)
    return result


def stored_costs(plan: Plan, store: Store) -> dict:
    """Costs from the store, or measured now, alone on the machine as far as the bench can help it."""
    inputs = "+".join(sorted({inputs_digest(method) for method in plan.methods}))
    settings = f"{plan.most}/{plan.repeats}/{plan.memory}/{plan.batch}/{plan.prior_images}"
    key = f"cost/costs/{','.join(plan.methods)}/{settings}/{inputs}"
    if key not in store:
        store.add(key, measure_costs(load_miniature(), plan))
    return store[key]


def stored_memory(plan: Plan, store: Store) -> dict[str, int | None]:
    """Peak memory by method, from the store or measured now; empty if the plan leaves it out."""
    found = {}
    for method in plan.methods if plan.memory else ():
        key = f"cost/memory/{method}/{plan.batch}/{plan.prior_images}/{inputs_digest(method)}"
        if key not in store:
            store.add(key, {"bytes": peak_memory(method, plan)})
        found[method] = store[key]["bytes"]
    return found


def machine() -> dict:
    """What the numbers were made on."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads_of_a_unit": 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "hybridbooth": __version__,
    }


def write_json(result: dict, out: Path) -> None:
    """Whole or not at all; UserError if the place cannot be written."""
    try:
        write_atomic(out, json.dumps(result, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error}); choose another place") from error


def summary(result: dict) -> str:
    """A few lines for the terminal."""
    lines = [f"{'method':28} {'steps':>5} {'identity':>9} {'prompt':>7} {'GFLOP':>9} {'seconds':>8} {'bytes':>10}"]
    for row in result["rows"]:
        gflop = row["tflop"] * TERA / 1e9
        lines.append(
            f"{row['title']:28} {row['steps']:5} {row['identity']:9.3f} {row['prompt']:7.3f} {gflop:9.1f} {row['seconds']:8.2f} "
            f"{row['stored_bytes']:10}"
        )
    lines += [f"{'met ' if verdict['met'] else 'MISSED'} {verdict['requirement']}" for verdict in result["verdicts"]]
    return "\n".join(lines)
