"""Variants of the probe, and the grid of printed constants: what is measured, as units that a killed run does not lose.

How a variant is trained is not the bench's business: a `Trainer` gives the world as the variant sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from hybridbooth_core.encoders.features import extract_features
from hybridbooth_core.files.subject import Subject
from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.models.adapter import class_embedding
from hybridbooth_core.refine import updates as refine_moves
from hybridbooth_core.refine.personalize import personalize
from hybridbooth_core.refine.refine import RefineConfig, refine

from .plan import TEST_START, TUNE_START, Plan
from .pool import Task
from .subjects import client, weights_digest
from .units import DIGITS, subject_scores

STEPS = (0, 5)
Trainer = Callable[[Miniature, str, int, Path], Miniature]
"""(world, variant, seed, folder) to the same world with the variant's probe and encoders; resumes what `folder` holds."""

TITLES = {
    "full": "all parts",
    "no_probe": "without probe (class noun in all words)",
    "no_dino": "without DINO",
    "no_clip": "without CLIP",
    "no_mask": "without mask regularisation",
    "resampler": "resampler in promptnet's place",
    "words_1": "1 word",
    "words_3": "3 words",
    "words_8": "8 words",
}


DRAWING = Plan(prompts=4)


@dataclass(frozen=True)
class AblationPlan:
    """What the ablations are made of. `lambdas` x `rates` are printed-form constants: the paper's are 1e-2 and 2e-5."""

    variants: tuple[str, ...] = tuple(name for name in TITLES if name != "no_probe")
    probe_seeds: tuple[int, ...] = (0, 1, 2)
    lambdas: tuple[float, ...] = (1e-2, 1e-1, 1.0)
    rates: tuple[float, ...] = (2e-5, 3e-3, 3e-2)
    drawing: Plan = DRAWING
    training: str = "600 steps, batch 16"  # part of every trained unit's key: another schedule is another probe

    @property
    def quick(self) -> AblationPlan:
        """A trial of the machinery."""
        drawing = replace(self.drawing, identities=2, prompts=1, tune_identities=1, sampling_steps=2)
        variants, seeds = ("full", "no_mask"), self.probe_seeds[:2]
        return replace(self, variants=variants, probe_seeds=seeds, lambdas=(1e-2,), rates=(2e-5, 3e-2), drawing=drawing, training="2 steps")


def ablation_tasks(plan: AblationPlan, trainer: Trainer, folder: Path) -> dict[str, Task]:
    """All units by key: one for each variant and seed, one without a probe, one for each pair of printed constants."""
    d = plan.drawing
    drawing = f"{d.identities}i{d.prompts}p{d.sampling_steps}s"
    shape = f"{drawing}/{weights_digest(refines=True)}"  # another shipped probe changes the grid only
    tasks: dict[str, Task] = {}
    for name in plan.variants:
        for seed in plan.probe_seeds:
            key = f"ablation/{name}/{seed}/{plan.training}/{shape}"
            tasks[key] = partial(measure_variant, d, trainer, name, seed, folder)
    tasks[f"ablation/no_probe/{shape}"] = partial(measure_without_probe, d)
    for scale in plan.lambdas:
        for rate in plan.rates:
            tasks[f"grid/{scale:g}/{rate:g}/{d.tune_identities}/{drawing}/{weights_digest(probe=True, refines=True)}"] = partial(
                measure_constants, d, scale, rate
            )
    return tasks


def measure_variant(plan: Plan, trainer: Trainer, name: str, seed: int, folder: Path, world: Miniature, prior: Prior) -> dict:
    """Train a variant's probe and score its guess and its refinement: `after[steps][score]` is a list over identities."""
    varied = trainer(world, name, seed, folder)
    after = {}
    for steps in STEPS:
        rows = []
        for row in range(plan.identities):
            someone = client("test", row + TEST_START)
            features = extract_features(varied.model, varied.clip, varied.dino, someone.ref)
            made = personalize(varied.model, varied.probe, someone.ref, features, someone.noun, RefineConfig(steps=steps))
            rows.append(_means(varied, made.subject, someone, row, plan, plan.seeds[:1]))
        after[str(steps)] = _by_score(rows)
    return {"variant": name, "seed": seed, "after": after}


def measure_without_probe(plan: Plan, world: Miniature, prior: Prior) -> dict:
    """The class noun in every word's place, and five steps on the words from there: what refinement does without a probe."""
    after = {}
    for steps in STEPS:
        rows = []
        for row in range(plan.identities):
            someone = client("test", row + TEST_START)
            noun = class_embedding(world.model, someone.noun)
            start = noun.expand(world.probe.config.num_tokens, -1).clone()
            made = refine(world.model, someone.ref, noun, RefineConfig(mode="words", steps=steps), start=start)
            rows.append(_means(world, Subject(made.embeddings), someone, row, plan, plan.seeds[:1]))
        after[str(steps)] = _by_score(rows)
    return {"variant": "no_probe", "seed": 0, "after": after}


def measure_constants(plan: Plan, scale: float, rate: float, world: Miniature, prior: Prior) -> dict:
    """Five steps of the paper's own optimiser with these lambda and lr on tune creatures."""
    rows, moved = [], []
    for row in range(plan.tune_identities):
        someone = client("tune", row + TUNE_START)
        features = extract_features(world.model, world.clip, world.dino, someone.ref)
        with printed_constants(scale, rate):
            made = personalize(world.model, world.probe, someone.ref, features, someone.noun, RefineConfig(mode="paper_literal"))
        rows.append(_means(world, made.subject, someone, row, plan, plan.seeds[:1]))
        moved.append(made.refinement.relative_changes[-1])
    scores = {name: sum(values) / len(values) for name, values in _by_score(rows).items()}
    return {"lambda": scale, "lr": rate, "product": scale * rate, "moved": sum(moved) / len(moved)} | scores


@contextmanager
def printed_constants(scale: float, rate: float) -> Iterator[None]:
    """While open, the mode "paper_literal" has other constants than those that the paper prints.

    They are constants of `refine_moves` and no option of it, since nobody but this grid should want others.
    """
    before = refine_moves.PAPER_LAMBDA, refine_moves.PAPER_LR
    refine_moves.PAPER_LAMBDA, refine_moves.PAPER_LR = scale, rate
    try:
        yield
    finally:
        refine_moves.PAPER_LAMBDA, refine_moves.PAPER_LR = before


def _means(world, artefact, someone, row, plan, seeds) -> dict[str, float]:
    scores = subject_scores(world, artefact, someone, row, plan, seeds)
    return {name: round(values.mean().item(), DIGITS) for name, values in scores.items()}


def _by_score(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def stacked(records: list[dict], steps: int, score: str) -> torch.Tensor:
    """One score of one variant after so many steps, [seeds, N]."""
    return torch.tensor([record["after"][str(steps)][score] for record in sorted(records, key=lambda record: record["seed"])])
