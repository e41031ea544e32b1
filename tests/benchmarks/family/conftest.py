"""The shipped miniature, loaded once, and results made up for what only reads results."""

from __future__ import annotations

import pytest
import torch

from benchmarks.family.plan import ENTRIES, Plan
from benchmarks.family.rows import SCORES


@pytest.fixture(scope="session")
def miniature():
    """The whole world with its shipped weights."""
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from hybridbooth_core.miniature.bundle import load_miniature

    return load_miniature()


@pytest.fixture
def scores():
    """Made-up scores by (method, steps) of 16 identities: HybridBooth at .8, the trained methods from .1 up to .78, all prompts right."""
    generator = torch.Generator().manual_seed(5)
    found = {}
    for method, entry in ENTRIES.items():
        for index, steps in enumerate((*entry.few, *entry.many) or (0,)):
            level = {"class_noun": 0.0, "encoder_only": 0.75, "hybridbooth": 0.8}.get(method, 0.1 + 0.136 * index)
            values = {name: level + 0.02 * torch.randn(16, generator=generator) for name in SCORES}
            found[method, steps] = values | {"prompt": torch.ones(16), "stored_bytes": torch.full((16,), 2500.0)}
    return found


@pytest.fixture
def result(scores):
    """A made-up `family.json`."""
    from benchmarks.family.rows import result_rows
    from benchmarks.family.verdicts import claims, requirements

    plan = Plan(identities=16)
    costs = {key: {"tflop": 0.004 + 0.003 * key[1], "seconds": 0.1 * key[1], "peak_memory_bytes": 1} for key in scores}
    choices = {name: {"few": {"rate": 1e-3}, "many": {"rate": 1e-4}} for name, entry in ENTRIES.items() if entry.rates}
    rows = result_rows(plan, scores, choices, costs)
    return {"plan": plan.record(), "rows": rows, "verdicts": requirements(scores, rows), "claims": claims(scores)}
