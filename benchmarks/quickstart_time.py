"""How long the quickstart takes from Run to a saved subject in ComfyUI, beside an earlier version of the pack, in turns.

    git worktree add ../before 6bb5877
    python -m benchmarks.quickstart_time ../before

writes benchmarks/results/quickstart_time.json. Two ComfyUIs run at once on the CPU, one with each version; each round queues the same
creature with a new seed in each of them, so that only the subject is computed. Needs a ComfyUI checkout, as the host tests do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.host.comfy import Host, find_installations
from tests.host.graphs import Graph, node, refined, world

from .provenance import RESULTS, ROOT, command_line, provenance

RESULT = RESULTS / "quickstart_time.json"


def single_nodes(seed: int) -> Graph:
    """The quickstart of 0.1: probe, features, refinement."""
    return {**refined(5, seed), "save": node("HybridBooth_SaveSubject", subject=["refine", 0], name="timed", overwrite=True)}


def one_node(seed: int, preview: bool) -> Graph:
    """The quickstart since 0.2."""
    wired = {"model": ["world", 0], "clip": ["world", 1], "vae": ["world", 2], "image": ["creature", 0], "mask": ["creature", 1]}
    settings = {"class_word": ["creature", 2], "name": "subject", "steps": 0, "seed": seed, "preview": preview, "invert_mask": False}
    subject = node("HybridBooth_PersonalizeSubject", probe=["probe", 0], **wired, **settings)
    save = node("HybridBooth_SaveSubject", subject=["personal", 1], name="timed", overwrite=True)
    return {**world(), "personal": subject, "save": save}


def seconds(host: Host, graph: Graph) -> float:
    began = time.perf_counter()
    host.run(graph)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout of the earlier version")
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    installation = find_installations()[0]
    times: dict[str, list[float]] = {"before": [], "single nodes": [], "one node": [], "one node, preview": []}
    with tempfile.TemporaryDirectory() as folder:
        earlier, now = (
            Host(installation, Path(folder) / name, pack.resolve()) for name, pack in (("before", options.before), ("now", ROOT))
        )
        try:
            earlier.start()
            now.start()
            for number in range(options.rounds + 1):
                found = {
                    "before": seconds(earlier, single_nodes(number)),
                    "single nodes": seconds(now, single_nodes(number)),
                    "one node": seconds(now, one_node(number, preview=False)),
                    "one node, preview": seconds(now, one_node(number, preview=True)),
                }
                for name, value in found.items():
                    times[name] += [value] if number else []  # the first round loads
        finally:
            earlier.stop()
            now.stop()
    result: dict[str, Any] = {**provenance(command_line("quickstart_time", ["../before"])), "rounds": options.rounds, "ratios": {}}
    for name in ("single nodes", "one node", "one node, preview"):
        ratios = sorted(value / before for value, before in zip(times[name], times["before"], strict=True))
        result["ratios"][name] = {"median": round(statistics.median(ratios), 3), "range": [round(ratios[0], 3), round(ratios[-1], 3)]}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
