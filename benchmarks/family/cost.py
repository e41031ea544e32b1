"""What a personalisation costs: counted operations, seconds, memory.

Operations are counted at two numbers of steps and the line through them is read off at any other; so are seconds. Class images are a cost
of the class, not of the subject, and are counted apart.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import torch

from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.models.peak_memory import resident_size

from ..counting import counting
from ..memory import GIVES_BACK, sampled_peak
from ..provenance import ROOT
from .plan import ENTRIES, Plan, needs
from .subjects import Client, client, personalised

COUNTED_STEPS = (3, 5)
TIMED_STEPS = (5, 25)
TERA = 1e12


def line(points: Sequence[tuple[float, float]], x: float) -> float:
    """The value at x of the line through the first and the last of the points (x, y); of one point, its y."""
    (x0, y0), (x1, y1) = points[0], points[-1]
    return y0 if x0 == x1 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def personalise(world: Miniature, method: str, someone: Client, steps: int, plan: Plan, prior: Prior) -> None:
    """The whole of one personalisation at the middle of the method's grid (what it costs does not depend on the rate)."""
    rates = plan.rates(method)
    personalised(world, method, someone, (steps,), rates[len(rates) // 2] if rates else None, plan, prior)


def warmed(world: Miniature, plan: Plan, someone: Client) -> Prior:
    """Class images that are there already, so that no personalisation pays for them."""
    prior = Prior(world.model)
    if _draws_class_images(plan):
        prior.latents(someone.noun, plan.prior_images)
    return prior


def _draws_class_images(plan: Plan) -> bool:
    return any("prior_images" in needs(method) for method in plan.methods)


def count_operations(world: Miniature, method: str, someone: Client, steps: int, plan: Plan, prior: Prior) -> int:
    """Floating-point operations of one personalisation (a multiply-add is two), forward and backward."""
    with counting() as counter:
        personalise(world, method, someone, steps, plan, prior)
    return counter.get_total_flops()


def count_class_images(world: Miniature, plan: Plan, someone: Client) -> int:
    """Operations of drawing one class's images."""
    with counting() as counter:
        Prior(world.model).latents(someone.noun, plan.prior_images)
    return counter.get_total_flops()


def points_of(plan: Plan, method: str, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The step counts to measure: the wanted ones within the plan's limit, or 0 for a method without steps."""
    if not ENTRIES[method].rates:
        return (0,)
    return tuple(steps for steps in wanted if steps <= plan.most) or (plan.most,)


def time_methods(world: Miniature, plan: Plan, someone: Client, prior: Prior) -> dict[str, list[tuple[int, float]]]:
    """Median seconds of one personalisation by method and steps, on one thread; methods alternate, so that all see the same machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    runs = {(method, steps): [] for method in plan.methods for steps in points_of(plan, method, TIMED_STEPS)}
    try:
        for repeat in range(plan.repeats + 1):
            for method, steps in runs:
                began = time.perf_counter()
                personalise(world, method, someone, steps, plan, prior)
                spent = time.perf_counter() - began
                if repeat:  # the first round warms up
                    runs[method, steps].append(spent)
    finally:
        torch.set_num_threads(threads)
    return {
        method: [(steps, statistics.median(seconds)) for (name, steps), seconds in runs.items() if name == method]
        for method in plan.methods
    }


MEMORY_PROBE = "from benchmarks.family.cost import report_memory; report_memory()"


def peak_memory(method: str, plan: Plan) -> int | None:
    """Bytes by which one personalisation raises the peak resident size of a fresh process that has loaded the world; None off Unix."""
    if platform.system() == "Windows":
        return None
    names = ("prior_images", "settings", "most", "batch", "mode")
    sizes = {name: getattr(plan, name) for name in names}
    task = json.dumps({"method": method, "plan": sizes})
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | GIVES_BACK
    done = subprocess.run([sys.executable, "-c", MEMORY_PROBE, task], check=True, capture_output=True, text=True, env=environment, cwd=ROOT)
    return int(done.stdout.split()[-1])


def report_memory() -> None:
    """The child's side of `peak_memory`: prints the bytes."""
    from hybridbooth_core.miniature.bundle import load_miniature

    task = json.loads(sys.argv[1])
    plan = Plan(methods=(task["method"],), **task["plan"])
    torch.set_num_threads(1)
    world, someone = load_miniature(), client("tune", 0)
    prior = warmed(world, plan, someone)
    before = resident_size()
    with sampled_peak() as highest:
        personalise(world, task["method"], someone, points_of(plan, task["method"], COUNTED_STEPS)[0], plan, prior)
    print(highest() - before)


def measure_costs(world: Miniature, plan: Plan) -> dict:
    """Operations and seconds, ready for JSON: points of both by method, and the class images."""
    someone = client("tune", 0)
    prior = warmed(world, plan, someone)
    load = os.getloadavg() if hasattr(os, "getloadavg") else (float("nan"),)
    seconds = time_methods(world, plan, someone, prior)
    methods = {}
    for method in plan.methods:
        steps_of = points_of(plan, method, COUNTED_STEPS)
        counted = [(steps, count_operations(world, method, someone, steps, plan, prior)) for steps in steps_of]
        methods[method] = {"operations": counted, "seconds": seconds[method]}
    shared = count_class_images(world, plan, someone) if _draws_class_images(plan) else 0
    return {"methods": methods, "class_images_tflop": round(shared / TERA, 4), "load_before": round(load[0], 2)}


def cost_at(costs: dict, memory: dict[str, int | None], method: str, steps: int) -> dict:
    """`tflop`, `seconds` and `peak_memory_bytes` of one method at a number of steps, from `measure_costs` and `peak_memory`."""
    mine = costs["methods"][method]
    return {
        "tflop": round(line(mine["operations"], steps) / TERA, 6),
        "seconds": round(line(mine["seconds"], steps), 4),
        "peak_memory_bytes": memory.get(method),
    }
