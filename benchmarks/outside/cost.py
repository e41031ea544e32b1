"""Floating-point operations of one subject, by row: of its prediction, its steps and their validation, without its features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.refine.config import RefineConfig

from ..counting import counting
from .rows import DEFAULT, ROWS, Someone, of_probe

GIGA = 1e9


def gflop(world: Miniature, probe: Probe, who: Someone, rows: Sequence[str], steps: Mapping[str, float]) -> dict[str, float]:
    """Operations of each row for the first creature of `who`; of a row on the embeddings at its mean number of steps."""
    one = Someone(who.refs[:1], who.nouns[:1], who.features[:1], who.vectors[:1])
    few, many = (_count(world, probe, one, of_probe(RefineConfig(mode="words", steps=count))) for count in (5, 10))
    found = {}
    for row in rows:
        if row == DEFAULT or row.startswith(("words", "anchored")):
            found[row] = few + (many - few) / 5 * (steps[row] - 5)
        else:
            found[row] = _count(world, probe, one, ROWS[row])
    return found


def _count(world: Miniature, probe: Probe, who: Someone, make) -> float:
    with counting() as counter:
        make(world, probe, who)
    return counter.get_total_flops() / GIGA
