"""The search of learning rates on tune creatures: the same number of settings and creatures for every method."""

from __future__ import annotations

import torch

from hybridbooth_core.evaluation.statistics import mean_of

from .plan import Plan, Regime, Unit
from .pool import Workers
from .store import Store
from .units import run_units


def search_units(plan: Plan) -> list[Unit]:
    """Every rate of every method on every tune creature, kept at the step counts that the choices are made at."""
    units = []
    for method in plan.methods:
        keep = tuple(sorted({at for regime in plan.regimes(method) if (at := plan.judged_at(method, regime))}))
        if keep:
            units += [Unit("tune", method, rate, row, keep) for rate in plan.rates(method) for row in range(plan.tune_identities)]
    return units


def search(plan: Plan, store: Store, workers: Workers) -> list[dict]:
    """The whole table: for every method, rate and step count the mean identity and prompt accuracy, and their sum, on tune creatures."""
    records = run_units(plan, search_units(plan), store, workers, "search")
    rows = []
    for method in plan.methods:
        for rate in plan.rates(method):
            mine = [record["after"] for unit, record in records.items() if (unit.method, unit.rate) == (method, rate)]
            for steps in mine[0] if mine else ():
                identity, prompt = (mean_of(torch.tensor([after[steps][name] for after in mine])) for name in ("identity", "prompt"))
                score = round(identity + prompt, 4)
                rows.append({"method": method, "rate": rate, "steps": int(steps), "identity": identity, "prompt": prompt, "score": score})
    return rows


def choose(plan: Plan, table: list[dict]) -> dict[str, dict[Regime, dict]]:
    """For every method and regime the rate with the highest identity + prompt accuracy; `at_edge` where it is the end of the grid."""
    choices: dict[str, dict[Regime, dict]] = {}
    for method in plan.methods:
        for regime in plan.regimes(method):
            rows = [row for row in table if row["method"] == method and row["steps"] == plan.judged_at(method, regime)]
            best = max(rows, key=lambda row: row["score"])
            edge = best["rate"] in (plan.rates(method)[0], plan.rates(method)[-1])
            choices.setdefault(method, {})[regime] = {"rate": best["rate"], "chosen_at_steps": best["steps"], "at_edge": edge}
    return choices
