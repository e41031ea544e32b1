"""Variants of the probe: what is measured, as units that a killed run does not lose.

How a variant is trained is a `Trainer`'s business: it gives the world as the variant sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from hybridbooth_core.encoders.features import extract_features
from hybridbooth_core.files.subject import Subject
from hybridbooth_core.methods.artefact import Artefact
from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.models.adapter import class_embedding
from hybridbooth_core.refine.personalize import personalize
from hybridbooth_core.refine.refine import RefineConfig, refine

from .plan import TEST_START, Plan
from .pool import Task
from .subjects import Client, client, weights_digest
from .units import DIGITS, subject_scores

STEPS = (0, 5)
Trainer = Callable[[Miniature, str, int, Path], Miniature]
"""(world, variant, seed, folder) to the same world with the variant's probe and encoders; resumes what `folder` holds."""

TITLES = {
    "full": "all parts",
    "no_probe": "without probe (class noun in every token's place)",
    "no_dino": "without DINO",
    "no_clip": "without CLIP",
    "no_mask": "without mask regularisation",
    "resampler": "resampler in promptnet's place",
    "words_1": "1 token",
    "words_3": "3 tokens",
    "words_8": "8 tokens",
}


DRAWING = Plan(prompts=4)


@dataclass(frozen=True)
class AblationPlan:
    """What the ablations are made of."""

    variants: tuple[str, ...] = tuple(name for name in TITLES if name != "no_probe")
    probe_seeds: tuple[int, ...] = (0, 1, 2)
    drawing: Plan = DRAWING
    training: str = "600 steps, batch 16"  # part of every trained unit's key: another schedule is another probe

    @property
    def quick(self) -> AblationPlan:
        """A trial of the machinery."""
        drawing = replace(self.drawing, identities=2, prompts=1, tune_identities=1, sampling_steps=2)
        variants, seeds = ("full", "no_mask"), self.probe_seeds[:2]
        return replace(self, variants=variants, probe_seeds=seeds, drawing=drawing, training="2 steps")


def ablation_tasks(plan: AblationPlan, trainer: Trainer, folder: Path) -> dict[str, Task]:
    """All units by key: one for each variant and seed, one without a probe."""
    d = plan.drawing
    shape = f"{d.identities}i{d.prompts}p{d.sampling_steps}s/{weights_digest(with_defaults=True)}"
    tasks: dict[str, Task] = {}
    for name in plan.variants:
        for seed in plan.probe_seeds:
            key = f"ablation/{name}/{seed}/{plan.training}/{shape}"
            tasks[key] = partial(measure_variant, d, trainer, name, seed, folder)
    tasks[f"ablation/no_probe/{shape}"] = partial(measure_without_probe, d)
    return tasks


def measure_variant(plan: Plan, trainer: Trainer, name: str, seed: int, folder: Path, world: Miniature, prior: Prior) -> dict:
    """Train a variant's probe and score its prediction and its refinement: `after[steps][score]` is a list over identities."""
    varied = trainer(world, name, seed, folder)
    after = {}
    for steps in STEPS:
        rows = []
        for row in range(plan.identities):
            someone = client("test", row + TEST_START)
            features = extract_features(varied.model, varied.clip, varied.dino, someone.ref)
            made = personalize(varied.model, varied.probe, someone.ref, features, someone.noun, RefineConfig(steps=steps))
            rows.append(mean_scores(varied, made.subject, someone, row, plan, plan.seeds[:1]))
        after[str(steps)] = by_score(rows)
    return {"variant": name, "seed": seed, "after": after}


def measure_without_probe(plan: Plan, world: Miniature, prior: Prior) -> dict:
    """The class noun in every token's place, and five steps on the embeddings from there: what refinement does without a probe."""
    after = {}
    for steps in STEPS:
        rows = []
        for row in range(plan.identities):
            someone = client("test", row + TEST_START)
            noun = class_embedding(world.model, someone.noun)
            start = noun.expand(world.probe.config.num_tokens, -1).clone()
            made = refine(world.model, someone.ref, noun, RefineConfig(mode="words", steps=steps), start=start)
            rows.append(mean_scores(world, Subject(made.embeddings), someone, row, plan, plan.seeds[:1]))
        after[str(steps)] = by_score(rows)
    return {"variant": "no_probe", "seed": 0, "after": after}


def mean_scores(world: Miniature, artefact: Artefact, someone: Client, row: int, plan: Plan, seeds: Sequence[int]) -> dict[str, float]:
    """Every score of one subject, its mean over images."""
    scores = subject_scores(world, artefact, someone, row, plan, seeds)
    return {name: round(values.mean().item(), DIGITS) for name, values in scores.items()}


def by_score(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Lists over identities by score."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def stacked(records: list[dict], steps: int, score: str) -> torch.Tensor:
    """One score of one variant after so many steps, [seeds, N]."""
    return torch.tensor([record["after"][str(steps)][score] for record in sorted(records, key=lambda record: record["seed"])])
