"""Floating-point operations of one subject, by row: of its prediction, its steps and their validation, without its features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from hybridbooth_core.files.subject import Subject, SubjectInfo
from hybridbooth_core.methods.polished import polish
from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.methods.registry import METHODS, run_method
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.refine.config import RefineConfig

from ..counting import counting
from .groups import ALONE, CAPTIONED, POLISHED, RIVALS
from .rows import DEFAULT, ROWS, Someone, of_probe

GIGA = 1e9


def gflop(world: Miniature, probe: Probe, who: Someone, rows: Sequence[str], steps: Mapping[str, float]) -> dict[str, float]:
    """Operations of each row for the first creature of `who`; of a row on the embeddings at its mean number of steps."""
    one = _first(who)
    few, many = (_count(world, probe, one, of_probe(RefineConfig(mode="words", steps=count))) for count in (5, 10))
    found = {}
    for row in rows:
        if row == DEFAULT or row.startswith(("words", "anchored")):
            found[row] = few + (many - few) / 5 * (steps[row] - 5)
        else:
            found[row] = _count(world, probe, one, ROWS[row])
    return found


def group_costs(world: Miniature, probe: Probe, who: Someone, prior: Prior) -> Callable[[Mapping[str, float]], dict[str, float]]:
    """The same for the rows of `groups`, from their mean numbers of steps. Class images are not counted, since subjects share them."""
    one = _first(who)
    few, many = (_count(world, probe, one, of_probe(RefineConfig(mode="words", steps=count))) for count in (5, 10))
    subject = Subject(one.vectors[0].repeat(probe.config.num_tokens, 1), SubjectInfo(class_noun=one.nouns[0]))
    polishing = METHODS[POLISHED].configuration(world.model.family)
    polished = _operations(lambda: polish(world.model, one.refs[0], subject, polishing))
    fixed = {row: _count(world, probe, one, ROWS[row]) for row in ("probe", "paper_5", ALONE)}
    for name, options in RIVALS.items():
        run_method(name, world.model, one.refs[0], one.nouns[0], prior=prior, **{**options, "steps": 1})  # draws the class images
        fixed[name] = _operations(partial(run_method, name, world.model, one.refs[0], one.nouns[0], prior=prior, **options))

    def of(steps: Mapping[str, float]) -> dict[str, float]:
        refined = {row: few + (many - few) / 5 * (steps[row] - 5) for row in (DEFAULT, CAPTIONED, "words_25")}
        return {**fixed, **refined, POLISHED: refined[CAPTIONED] + polished}

    return of


def _first(who: Someone) -> Someone:
    return Someone(who.refs[:1], who.nouns[:1], who.features[:1], who.vectors[:1], who.captions[:1])


def _operations(work: Callable[[], object]) -> float:
    with counting() as counter:
        work()
    return counter.get_total_flops() / GIGA


def _count(world: Miniature, probe: Probe, who: Someone, make) -> float:
    return _operations(lambda: make(world, probe, who))
