"""From units to the rows of the results: means over images, then over identities, with intervals and paired differences.

Axes: N identities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybridbooth_core.evaluation.statistics import interval, mean_of, paired

from .plan import ENTRIES, HEADLINE, Plan, Regime, Unit

SCORES = ("identity", "prompt", "kind", "dino_i", "dino_ref", "clip_i", "clip_t", "leakage", "diversity")

Key = tuple[str, int]  # method and steps
PerIdentity = dict[str, Tensor]  # score or stored_bytes to [N]


def test_units(plan: Plan, choices: dict[str, dict[Regime, dict]]) -> list[Unit]:
    """Every method on every test creature, with the rates that the search chose."""
    units = []
    for method in plan.methods:
        for row in range(plan.identities):
            if not ENTRIES[method].rates:
                units.append(Unit("test", method, None, row, (0,)))
            for regime in plan.regimes(method):
                units.append(Unit("test", method, choices[method][regime]["rate"], row, plan.steps(method, regime)))
    return units


def per_identity(records: dict[Unit, dict]) -> dict[Key, PerIdentity]:
    """Each method's and step count's scores [N], means over the images of each identity."""
    rows = sorted({unit.row for unit in records})
    gathered: dict[Key, dict[str, dict[int, float]]] = {}
    for unit, record in records.items():
        for steps, scores in record["after"].items():
            place = gathered.setdefault((unit.method, int(steps)), {})
            for name, values in scores.items():
                numbers = values if isinstance(values, list) else [values]
                place.setdefault(name, {})[unit.row] = sum(numbers) / len(numbers)
    return {key: {name: torch.tensor([by[row] for row in rows]) for name, by in scores.items()} for key, scores in gathered.items()}


def result_rows(plan: Plan, scores: dict[Key, PerIdentity], choices: dict[str, dict[Regime, dict]], costs: dict[Key, dict]) -> list[dict]:
    """One row for each method and number of steps, in the plan's order; `minus_headline` is the paired difference to `HEADLINE`."""
    rows = []
    for key in sorted(scores, key=lambda key: (plan.methods.index(key[0]), key[1])):
        method, steps = key
        mine = scores[key]
        regime: Regime = "many" if steps in ENTRIES[method].many else "few"
        row: dict = {
            "method": method,
            "title": ENTRIES[method].title,
            "steps": steps,
            "rate": choices[method][regime]["rate"] if method in choices else None,
        }
        for name in SCORES:
            row |= {name: mean_of(mine[name]), f"{name}_ci95": interval(mine[name])}
        row |= costs.get(key, {}) | {"stored_bytes": round(mine["stored_bytes"].mean().item())}
        if HEADLINE in scores and key != HEADLINE:
            row["minus_headline"] = {name: paired(mine[name], scores[HEADLINE][name]) for name in SCORES}
        rows.append(row)
    return rows
