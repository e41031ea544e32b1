"""Subjects unlike those that the probe was trained on: does refinement close what the probe cannot know?

    python -m benchmarks.outside --work DIR

writes benchmarks/results/outside.json. `transfer`: probes trained on two kinds of creature, used on the other two. `rows`: probes that know
a declared part of the family, by what is new of a creature. `drawn`: probes trained on the base's own drawings. `language`: a start from
language alone. What is measured is kept in DIR, so a run that was stopped continues; `--jobs` processes share the work.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.miniature.bundle import Miniature, load_miniature
from hybridbooth_core.miniature.evaluate import class_nouns, reference_of
from hybridbooth_core.miniature.world import KINDS

from ..family.pool import Task, in_pool, run_tasks
from ..family.store import Store
from ..provenance import RESULTS, command_line, commit
from . import drawn, groups, language
from .cost import gflop, group_costs
from .rows import ROWS, captions_of, someone
from .transfer import REGRESSORS, first_of_kinds, measure_no_probe, measure_split, splits, table, train_split

RESULT = RESULTS / "outside.json"
ALONE = "no_probe"


def transfer(work: Path, each: int, jobs: int) -> list[dict]:
    """The tables of kind transfer, by regressor and by whether the kind was seen."""
    plan, store = splits(), Store(work)
    tasks: dict[str, Task] = {f"transfer/{split.name}/{each}": partial(measure_split, split, work / "probes", each) for split in plan}
    tasks[f"transfer/{ALONE}/{each}"] = partial(measure_no_probe, each)
    found = {key.split("/")[1]: record for key, record in run_tasks(tasks, store, in_pool(jobs), "probes").items()}
    alone, rows, world = found.pop(ALONE), [], load_miniature()
    who = first_of_kinds("test", range(len(KINDS)), 1)
    inputs = someone(world, [reference_of(who, row) for row in range(len(who))], class_nouns(who))
    for regressor in REGRESSORS:
        probe = train_split(world, next(split for split in plan if split.regressor == regressor), work / "probes")
        for seen in (True, False):
            plain = table(found, alone, regressor, seen, {})
            steps = {row["method"]: row["steps"] for row in plain}
            rows += table(found, alone, regressor, seen, gflop(world, probe, inputs, list(ROWS), steps))
    return rows


def by_group(work: Path, jobs: int) -> list[dict]:
    """The table of the groups."""
    records = run_tasks(groups.tasks(work / "probes"), Store(work), in_pool(jobs), "groups")
    world, prior = _world()
    probe, who = groups.train_known(world, groups.SEEDS[0], work / "probes"), groups.first_of("test", "inside", 1)
    cost = group_costs(world, probe, someone(world, groups.references_of(who, "inside"), class_nouns(who), captions_of(who)), prior)
    plain = groups.table(records, {})
    steps = {
        kind: {row["method"]: row["steps"] for row in plain if row["kind"] == kind} for kind in dict.fromkeys(r["kind"] for r in plain)
    }
    return groups.table(records, {kind: cost(counts) for kind, counts in steps.items()})


def from_drawings(work: Path, each: int, jobs: int) -> dict[str, Any]:
    """The table of probes trained on drawings, and how well the masks of drawings fit."""
    records = run_tasks(drawn.tasks(work / "probes", each), Store(work), in_pool(jobs), "drawn")
    return {"rows": drawn.table(records, each), "masks": records[drawn.MASKS_KEY]}


def from_language(work: Path, jobs: int) -> list[dict]:
    """Identity on tune creatures by steps, begun from language or not."""
    records = run_tasks(language.tasks(work / "probes"), Store(work), in_pool(jobs), "language")
    return language.table(records)


def _world() -> tuple[Miniature, Prior]:
    world = load_miniature()
    return world, Prior(world.model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="for trained probes and finished measurements")
    parser.add_argument("--creatures", type=int, default=5, help="test creatures of every kind (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    # no "probe", since the shipped one has no part in it
    result: dict[str, Any] = {
        "command": command_line("outside", ["--work", "DIR"]),
        "commit": commit(),
        "creatures": chosen.creatures,
        "splits": [split.name for split in splits()],
    }
    result["transfer"] = transfer(chosen.work, chosen.creatures, chosen.jobs)
    result["known"] = (
        f"{len(groups.SEEDS)} probe, which knows cats and rabbits, half the patterns and colours, narrow bodies and short ears "
        f"({groups.SCHEDULE.steps} steps of {groups.SCHEDULE.batch}); {groups.EACH} test creatures of every group, 4 scenes."
    )
    result["rows"] = by_group(chosen.work, chosen.jobs)
    result["drawn"] = from_drawings(chosen.work, chosen.creatures, chosen.jobs)
    result["language"] = from_language(chosen.work, chosen.jobs)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in [*result["transfer"], *result["rows"], *result["drawn"]["rows"]]:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
