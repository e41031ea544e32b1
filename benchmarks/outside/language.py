"""Does a start from language alone save steps? The regressor first learns to turn the text encoder's output back into embeddings.

As LinCIR (Gu et al. 2024, arXiv 2312.01998) trains its projection: no image is seen, the states of a described subject stand in for the
features of its photo, with noise for the gap between the two.

Axes: B descriptions, T tokens of a context, d width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import functional as F

from hybridbooth_core.data.vocabulary import describe
from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.miniature.bundle import Miniature
from hybridbooth_core.miniature.drawing_words import vocabulary
from hybridbooth_core.miniature.training.probe import JudgeCheck, miniature_context, miniature_probe
from hybridbooth_core.models.adapter import Prompt, class_embedding
from hybridbooth_core.models.seeds import stage_generator
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.training.callbacks import Callbacks
from hybridbooth_core.training.config import ProbeShape
from hybridbooth_core.training.metrics import read_curve
from hybridbooth_core.training.optimizer import Optimizer
from hybridbooth_core.training.trainer import Trainer

from ..family.pool import Task
from .transfer import SHORT

SEEDS = (0,)
"""One only: what it shows is a hint."""
STEPS, BATCH, NOISE = 800, 48, 0.3
EVERY = 150
"""Steps between two looks at the probe."""


def learn_language(probe: Probe, world: Miniature, seed: int, steps: int = STEPS) -> list[float]:
    """Trains the regressor so that a prompt with its embeddings is encoded as the prompt with the description. Returns the losses."""
    model, words = world.model, vocabulary()
    probe.regressor.requires_grad_(True).train()
    optimizer = Optimizer([probe.regressor], 1.5e-3, 2.5e-3)
    losses = []
    for step in range(steps):
        generator = stage_generator(seed, "language", step)
        found = [describe(words, generator, 1) for _ in range(BATCH)]
        with torch.no_grad():
            said = model.encode_prompts([["a photo of a", one.phrase] for one in found]).context
            target = _summary(world, [[one.scenes[0][0], one.phrase, one.scenes[0][1]] for one in found])
            nouns = torch.stack([class_embedding(model, one.noun) for one in found])
        features = said + NOISE * torch.rand(BATCH, 1, 1, generator=generator) * torch.randn(said.shape, generator=generator)
        output = probe.regressor(features, torch.empty(BATCH, 0)) * probe._unit
        embeddings = torch.cat([output[:, :-1], output[:, -1:] + nouns[:, None]], 1)
        loss = F.mse_loss(
            _summary(world, [[one.scenes[0][0], row, one.scenes[0][1]] for one, row in zip(found, embeddings, strict=True)]), target
        )
        loss.backward()
        optimizer.step(min(1.0, (step + 1) / 50, (steps - step) / (0.6 * steps)))
        losses.append(loss.item())
    return losses


def _summary(world: Miniature, prompts: list[Prompt]) -> Tensor:
    """The states [B, d] of the end tokens."""
    encoded = world.model.encode_prompts(prompts)
    return encoded.context[torch.arange(len(prompts)), encoded.ends]


def measure_language(language: bool, seed: int, folder: Path, world: Miniature, _: Prior) -> dict:
    """Identity on tune creatures after every `EVERY` steps of a short training, begun from language or from nothing."""
    log = replace(SHORT.log, validate_every=EVERY)
    config = replace(SHORT, seed=seed, probe=ProbeShape("resampler"), log=log, out=folder / f"language-{int(language)}-{seed}")
    context = miniature_context(config, world.model, world.clip, world.dino)
    probe = miniature_probe(world.model, world.clip, world.dino, config.probe, config.seed, context.provenance)
    losses = learn_language(probe, world, seed) if language else []
    check = JudgeCheck(world.model, world.clip, world.dino, world.judge, 24)
    Trainer(config, context, probe, Callbacks(check)).run(resume=True)
    rows = [row for row in read_curve(config.out) if row.get("identity") is not None and row["step"] % EVERY == 0]
    after = {str(row["step"]): {name: round(row[name], 4) for name in ("identity", "validation")} for row in rows}
    return {"after": after, "language": [round(loss, 4) for loss in losses[:: max(1, len(losses) // 8)]]}


def tasks(folder: Path) -> dict[str, Task]:
    """What is to be measured, by key."""
    return {
        f"language/{int(language)}/{seed}": partial(measure_language, language, seed, folder)
        for seed in SEEDS
        for language in (True, False)
    }


def table(records: Mapping[str, dict]) -> list[dict]:
    """One row for every number of steps: the identity begun from language and from nothing, means over `SEEDS`."""
    rows = []
    for steps in records[f"language/0/{SEEDS[0]}"]["after"]:
        begun = {arm: [records[f"language/{arm}/{seed}"]["after"][steps]["identity"] for seed in SEEDS] for arm in (0, 1)}
        rows.append({"steps": int(steps), "identity": round(fmean(begun[1]), 4), "identity_without": round(fmean(begun[0]), 4)})
    return rows
