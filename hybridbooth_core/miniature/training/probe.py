"""The training of the miniature's probe: configuration, data, metrics and sample grids for the general trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...encoders.features import FeatureEncoder, Reference, extract_features, reference
from ...errors import UserError
from ...models.diffusers_adapter import DiffusersModel
from ...models.ldm_layout import to_ldm_layout
from ...models.seeds import new_generator
from ...probe.learner import Learner
from ...probe.probe import Probe, ProbeConfig
from ...probe.untrained import new_probe
from ...refine.captions import SUBJECT
from ...training.callbacks import Callbacks, GridContent, GridPrompts, GridSubject
from ...training.config import Data, LogConfig, Loss, Optim, ProbeShape, TrainConfig
from ...training.context import TrainingContext
from ...training.sample_grids import grid_subject, shard_content
from ...training.setup import provenance, untrained_learner
from ...training.sources import ShardSource
from ...training.trainer import Trainer
from ..bundle import CLIP_ID, DINO_ID, load_miniature
from ..captions import scene_prompt
from ..evaluate import EVALUATION_SCENES, class_nouns, evaluate, reference_of
from ..nets import Judge
from ..render import SIZE, render
from ..world import KINDS, Creatures, creatures, random_scenes, split_numbers
from ..world_model import WIDTH
from .source import Draw, MiniatureSource, train_numbers

SIZES = {
    "promptnet": {
        "channels": 64,
        "multipliers": [1, 2],
        "depth": 1,
        "heads": 4,
        "attention_levels": 2,
        "latent_channels": 16,
        "pooled": 32,
    },
    "resampler": {"layers": 3, "heads": 4, "inner": 192},  # about as many parameters as this promptnet
}
TIMES = (0.35, 1.0)  # at low noise the noisy image itself shows the subject, and the embeddings learn nothing
RESIDUAL_STEP = 3e-4  # chosen on tune creatures
IDENTITIES = 24  # maximum number of creatures for the judge
OTHER_SCENE = 1 << 30  # added to a creature's number for the seed of its other photo; of a seed the low 32 bits count
PROMPTS = GridPrompts("a photo of a", ("on snow", "with a hat on grass", "in space"), 3.0)  # of sample grids
ORIGIN = {"trained_on": "train creatures of the miniature world", "licence": "Apache-2.0"}

CONFIG = TrainConfig(
    out=Path("miniature_probe"),
    model="miniature",
    steps=6000,
    batch=24,
    micro_batch=24,
    dtype="float32",
    device="cpu",
    data=Data(neutral=0.1, condition_drop=0.0, masked=0.8, background=0.0, augment=0.5),
    probe=ProbeShape(regressor="resampler"),
    loss=Loss(times=TIMES, mask_weight=0.02, norm_weight=1e-3),
    optim=Optim(kind="muon", lr=1.5e-3, muon_lr=2.5e-3, warmup=100, decay=0.6, ema=0.998),
    log=LogConfig(
        log_every=100, validate_every=1000, validation_samples=96, grid_every=2000, grid_subjects=4, grid_steps=15, save_every=500
    ),
)


def class_embeddings(model: DiffusersModel) -> Tensor:
    """Token embeddings of KINDS, [4, d]."""
    return torch.cat([model.token_embeddings(kind) for kind in KINDS])


def new_probe_fields(regressor: str) -> dict[str, Any]:
    """What a new probe of the miniature reads with, its sizes and its step sizes, as fields of `ProbeConfig`."""
    readers = {"clip": CLIP_ID, "clip_width": WIDTH, "dino": DINO_ID, "dino_width": WIDTH}
    return {**readers, "regressor": regressor, "sizes": SIZES[regressor], "residual_step": RESIDUAL_STEP}


def miniature_probe(
    model: DiffusersModel,
    clip: FeatureEncoder,
    dino: FeatureEncoder,
    shape: ProbeShape,
    seed: int,
    origin: Mapping[str, str] | None = None,
) -> Probe:
    """An untrained probe for the miniature. `origin`: `trained_on` and `licence` of its data, rendered creatures by default."""
    origin = origin or ORIGIN
    table = model.token_table()
    fields: dict[str, Any] = {**new_probe_fields(shape.regressor), "clip_width": clip.width, "dino_width": dino.width}
    fields |= {"sizes": shape.sizes} if shape.sizes else {}
    config = ProbeConfig(
        width=WIDTH,
        num_tokens=shape.num_tokens,
        embedding_norm=round(table[2:].norm(dim=1).mean().item(), 6),
        family=model.family,
        base_model=model.name,
        base_fingerprint=model.fingerprint,
        trained_on=origin["trained_on"],
        licence=origin["licence"],
        **fields,
    )
    return new_probe(config, to_ldm_layout(model.unet.state_dict()), seed)


def miniature_context(
    config: TrainConfig, model: DiffusersModel, clip: FeatureEncoder, dino: FeatureEncoder, draw: Draw = train_numbers
) -> TrainingContext:
    """The training context of the miniature: rendered creatures of `draw`, or shards if the configuration names some."""
    if config.data.shards is not None:
        shards = ShardSource(config.data, config.seed, config.micro_batch, (SIZE, SIZE))
        return TrainingContext(model, clip, dino, shards, provenance(shards.index))
    source = MiniatureSource(config.data, config.seed, draw)
    return TrainingContext(model, clip, dino, source, dict(ORIGIN))


def prepare_miniature_training(
    config: TrainConfig, device: torch.device, model: DiffusersModel | None = None
) -> tuple[TrainingContext, Learner, Callbacks]:
    """The training context, an untrained learner, and callbacks: the judge's metrics, and sample grids of tune creatures.

    Raises:
        UserError: the device is not the CPU.
    """
    if device.type != "cpu":
        raise UserError(f"the miniature is trained on the CPU, found the device {device}; use --device cpu")
    m = load_miniature()
    model = model or m.model
    context = miniature_context(config, model, m.clip, m.dino)
    if config.learner != "probe":
        from .learners import check_of

        readers = [(CLIP_ID, m.clip.width), (DINO_ID, m.dino.width)]
        content = partial(_content, config, context)
        return context, untrained_learner(config, model, readers, context.provenance), Callbacks(check_of(config, m), grid_content=content)
    probe = miniature_probe(model, m.clip, m.dino, config.probe, config.seed, context.provenance)
    check = JudgeCheck(model, m.clip, m.dino, m.judge, min(IDENTITIES, config.log.validation_samples))
    return context, probe, Callbacks(check, grid_content=partial(_content, config, context))


def _content(config: TrainConfig, context: TrainingContext, count: int) -> GridContent:
    """`count` subjects like those of the training: of its shards, or tune creatures."""
    if config.data.shards is None:
        return creature_content(context, count)
    return replace(shard_content(config, context, count), prompts=PROMPTS)


def creature_content(context: TrainingContext, count: int) -> GridContent:
    """`count` tune creatures."""
    return GridContent(creature_subjects(context, creatures(split_numbers("tune", count))), PROMPTS, held_out=True)


def creature_subjects(context: TrainingContext, who: Creatures) -> list[GridSubject]:
    """Creatures in two photos each, as subjects."""
    subjects = []
    for row, noun in enumerate(class_nouns(who)):
        number = int(who.number[row])
        where = random_scenes(1, new_generator(number + OTHER_SCENE))
        before, _, after = scene_prompt(where, 0, [""])
        other = reference(*render(who[row : row + 1], where))
        subject = grid_subject(context, reference_of(who, row), noun)
        subjects.append(replace(subject, other=other, caption=f"{before} {SUBJECT} {after}"))
    return subjects


@dataclass(frozen=True, eq=False)
class JudgeCheck:
    """Identity and prompt accuracy of the probe's embeddings for tune creatures, measured by the judge."""

    model: DiffusersModel
    clip: FeatureEncoder
    dino: FeatureEncoder
    judge: Judge
    identities: int

    @torch.no_grad()
    def __call__(self, probe: Probe) -> dict[str, float]:
        who = creatures(split_numbers("tune", self.identities))
        refs = [reference_of(who, row) for row in range(len(who))]
        embeddings = predict_embeddings(probe, self.model, self.clip, self.dino, refs, class_embeddings(self.model)[who.kind])
        scores = evaluate(self.model, self.judge, who, list(embeddings), EVALUATION_SCENES[:4])
        return {"identity": scores.identity.mean().item(), "prompt": scores.prompt.mean().item()}


@torch.no_grad()
def predict_embeddings(
    probe: Probe, model: DiffusersModel, clip: FeatureEncoder, dino: FeatureEncoder, refs: list[Reference], nouns: Tensor
) -> Tensor:
    """The probe's predictions [N, n, d] for N references of one image each; `nouns`: class-noun embeddings [N, d]."""
    features = [extract_features(model, clip, dino, ref) for ref in refs]
    return torch.cat([probe(f, noun) for f, noun in zip(features, nouns, strict=True)])


def train_probe(
    config: TrainConfig,
    folder: Path,
    model: DiffusersModel,
    clip: FeatureEncoder,
    dino: FeatureEncoder,
    judge: Judge,
    draw: Draw = train_numbers,
) -> Probe:
    """Trains a probe in `folder` on the creatures of `draw`. Resumes a training that is there, or only loads it if it is complete."""
    config = replace(config, out=folder)
    context = miniature_context(config, model, clip, dino, draw)
    probe = miniature_probe(model, clip, dino, config.probe, config.seed, context.provenance)
    check = JudgeCheck(model, clip, dino, judge, min(IDENTITIES, config.log.validation_samples))
    return Trainer(config, context, probe, Callbacks(check, grid_content=partial(_content, config, context))).run(resume=True)
