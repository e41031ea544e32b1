"""One unit of the bench: personalise, draw, score."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from hybridbooth_core.methods.artefact import Artefact
from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.miniature.evaluate import EVALUATION_SCENES, draw, join

from .metrics import diversity, image_scores, leakage
from .plan import Plan, Unit
from .pool import Workers, run_tasks
from .store import Store
from .subjects import Client, client, inputs_digest, personalised

DIGITS = 5
PER_SCENE = ("leakage", "diversity")  # [S]; all other scores are of images, [G, S]


def measure(plan: Plan, unit: Unit, world: Miniature, prior: Prior) -> dict:
    """The record of a unit: after each number of steps, every score of every image, and the bytes of the artefact's file."""
    someone = client(unit.split, unit.number)
    made = personalised(world, unit.method, someone, unit.keep, unit.rate, plan, prior)
    seeds = plan.seeds if unit.split == "test" else plan.seeds[:1]
    after = {}
    for steps, artefact in made.items():
        scores = subject_scores(world, artefact, someone, unit.row, plan, seeds)
        numbers = {name: [round(v, DIGITS) for v in values.flatten().tolist()] for name, values in scores.items()}
        after[str(steps)] = numbers | {"stored_bytes": stored_bytes(artefact)}
    return {"method": unit.method, "rate": unit.rate, "row": unit.row, "after": after}


@torch.no_grad()
def subject_scores(world: Miniature, artefact: Artefact, someone: Client, row: int, plan: Plan, seeds: Sequence[int]) -> dict[str, Tensor]:
    """All scores [G, S] (`PER_SCENE`: [S]) of one subject; diversity only where there are two seeds."""
    scenes = EVALUATION_SCENES[: plan.prompts]
    where = join(scenes)
    with artefact.applied(world.model) as pieces:
        one = [draw(world.model, someone.who, [pieces], scenes, seed, plan.sampling_steps, plan.guidance, first=row)[0] for seed in seeds]
        leak = leakage(world.model, pieces, someone.who, where)
    images = torch.stack(one)
    scores = image_scores(world, images, someone.who, where, someone.ref) | {"leakage": leak}
    return scores | ({"diversity": diversity(world.held_out, images)} if len(seeds) > 1 else {})


def stored_bytes(artefact: Artefact) -> int:
    """The size of the artefact's file as `save` writes it; 0 if there is nothing to write."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "subject.safetensors"
        artefact.save(path)
        return path.stat().st_size if path.exists() else 0


def run_units(plan: Plan, units: Sequence[Unit], store: Store, workers: Workers, title: str) -> dict[Unit, dict]:
    """The records of all units, the long ones done first."""
    inputs = {method: inputs_digest(method) for method in {unit.method for unit in units}}
    keys = {unit: unit.key(plan, inputs[unit.method]) for unit in sorted(units, key=lambda unit: -max(unit.keep))}
    records = run_tasks({key: partial(measure, plan, unit) for unit, key in keys.items()}, store, workers, title)
    return {unit: records[keys[unit]] for unit in units}
