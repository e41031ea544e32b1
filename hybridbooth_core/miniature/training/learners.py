"""The training of the miniature's hypernetwork and InstantBooth adapter, by the general trainer on the probe's data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from ...encoders.features import FeatureEncoder, extract_features
from ...models.adapter import TrainableModel
from ...models.diffusers_adapter import DiffusersModel
from ...models.sampling import generate, initial_noise
from ...probe.learner import Features, Learner
from ...training.callbacks import Callbacks
from ...training.config import AdapterShape, HypernetworkShape, TrainConfig
from ...training.setup import untrained_learner
from ...training.trainer import Trainer
from ..bundle import CLIP_ID, DINO_ID, Miniature
from ..captions import scene_prompt
from ..evaluate import EVALUATION_SCENES, Scores, class_nouns, reference_of, score
from ..nets import Judge
from ..world import Creatures, creatures, repeat, split_numbers
from ..world_model import LATENT_SHAPE
from .probe import CONFIG, IDENTITIES, ORIGIN, miniature_context

Kind = Literal["hypernetwork", "instantbooth"]
TOKEN = "picture"
"""Names the subject of a hypernetwork before its class noun: the rarest words of the miniature are names of particular creatures."""

SHAPE = HypernetworkShape(inner=128, heads=4, subspace=(32, 16), targets="unet", token=TOKEN)
CONFIGS: dict[Kind, TrainConfig] = {
    kind: replace(
        CONFIG,
        out=Path(f"miniature_{kind}"),
        learner=kind,
        steps=4000,
        hypernetwork=SHAPE,
        adapter=AdapterShape(heads=4, alpha=1.0, beta=1.0),
        loss=replace(CONFIG.loss, mask_weight=0.0, norm_weight=1e-3),
        log=replace(CONFIG.log, grid_every=0),
    )
    for kind in get_args(Kind)
}


def new_learner(kind: Kind, model: DiffusersModel, clip: FeatureEncoder, dino: FeatureEncoder, seed: int, **changes: Any) -> Learner:
    """An untrained hypernetwork or adapter for the miniature; `changes` are fields of its file's configuration."""
    learner = untrained_learner(replace(CONFIGS[kind], seed=seed), model, [(CLIP_ID, clip.width), (DINO_ID, dino.width)], dict(ORIGIN))
    if not changes:
        return learner
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return type(learner)(replace(learner.config, **changes))  # type: ignore[call-arg]


def train_learner(learner: Learner, config: TrainConfig, world: Miniature) -> Learner:
    """Trains in `config.out`. Resumes a training that is there, or only loads it if it is complete."""
    context = miniature_context(config, world.model, world.clip, world.dino)
    return Trainer(config, context, learner, Callbacks(check_of(config, world))).run(resume=True)


def check_of(config: TrainConfig, world: Miniature) -> LearnerCheck:
    """The judge's metrics of a training."""
    return LearnerCheck(world.model, world.clip, world.dino, world.judge, min(IDENTITIES, config.log.validation_samples))


@dataclass(frozen=True, eq=False)
class LearnerCheck:
    """Identity and prompt accuracy of what a learner predicts for tune creatures, measured by the judge."""

    model: DiffusersModel
    clip: FeatureEncoder
    dino: FeatureEncoder
    judge: Judge
    identities: int

    def __call__(self, learner: Learner) -> dict[str, float]:
        who = creatures(split_numbers("tune", self.identities))
        scores = evaluate_learner(learner, self.model, self.judge, who, features_of(self.model, self.clip, self.dino, who))
        return {"identity": scores.identity.mean().item(), "prompt": scores.prompt.mean().item()}


def features_of(model: TrainableModel, clip: FeatureEncoder, dino: FeatureEncoder, who: Creatures) -> Features:
    """The features of each creature's one reference, [B, ...]."""
    found = [extract_features(model, clip, dino, reference_of(who, row)) for row in range(len(who))]
    return Features(*(torch.cat([getattr(one, name) for one in found]) for name in ("clip", "dino", "latents")))


@torch.no_grad()
def evaluate_learner(
    learner: Learner, model: DiffusersModel, judge: Judge, who: Creatures, features: Features, scenes=EVALUATION_SCENES[:4], seed: int = 0
) -> Scores:
    """Scores [B, S] of what a learner predicts for B creatures, drawn scene by scene, all creatures in one batch."""
    nouns, columns = class_nouns(who), []
    predicted = learner(features, torch.zeros(len(who), 1))
    with learner.applied(model, predicted):
        for number, where in enumerate(scenes):
            templates = [tuple(map(str, scene_prompt(where, 0, [""])[::2])) for _ in who.number]
            prompts = learner.prompts(predicted, templates, nouns, model)  # type: ignore[arg-type]
            noise = initial_noise(len(who), LATENT_SHAPE, seed + number)
            images = generate(model, prompts, noise, 15, 3.0)
            columns.append(score(judge, images, who, repeat(where, len(who)), (len(who), 1)))
    return Scores(*(torch.cat([getattr(column, name) for column in columns], 1) for name in ("identity", "prompt", "kind")))
