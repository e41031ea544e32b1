"""What could make a few steps worth their cost: every lead against the probe's own prediction, on tune creatures.

    python -m benchmarks.leads
    python -m benchmarks.leads --confirm

The first writes benchmarks/results/leads.json, all leads on 32 creatures; the second leads_confirmed.json, the most promising ones on 128
others, since single creatures gain or lose so much that 32 cannot tell small gains apart. `gain` is identity after the lead minus
identity of the prediction, paired by creature, with its 95 % bootstrap interval; a lead `passes` where identity + prompt gains with an
interval above zero. The defaults of `RefineConfig` and of the probe's file follow from it; test creatures play no part.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from hybridbooth_core.encoders.features import Reference, extract_features
from hybridbooth_core.evaluation.statistics import interval
from hybridbooth_core.miniature.bundle import Miniature, load_miniature
from hybridbooth_core.miniature.captions import scene_prompt
from hybridbooth_core.miniature.evaluate import EVALUATION_SCENES, class_nouns, evaluate, reference_of, reference_scene
from hybridbooth_core.miniature.world import Scenes, creatures, split_numbers
from hybridbooth_core.models.adapter import DiffusionModel, Prompt, class_embedding
from hybridbooth_core.probe.probe import Features
from hybridbooth_core.refine.refine import RefineConfig, Refinement, refine

from .provenance import RESULTS, command_line, provenance

RESULT = RESULTS / "leads.json"


@dataclass(frozen=True, eq=False)
class Case:
    """One creature as a method sees it, and the scene of its photo, which one lead may read."""

    world: Miniature
    ref: Reference
    features: Features
    noun: str
    scene: Scenes

    @property
    def vector(self) -> Tensor:
        return class_embedding(self.world.model, self.noun)

    def refined(self, config: RefineConfig, **changes) -> Refinement:
        arguments = {"model": self.world.model, "ref": self.ref, "noun": self.vector, "config": config}
        starts = {} if "start" in changes else {"probe": self.world.probe, "features": self.features}
        return refine(**arguments | starts | changes)


class ScenePrompts:
    """The model, but every prompt of the refinement also says what else is in the photo."""

    def __init__(self, model: DiffusionModel, scene: Prompt):
        self._model, self._scene = model, scene

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def encode_prompts(self, prompts: Sequence[Prompt]):
        before, _, after = self._scene
        embeddings = [next(piece for piece in prompt if not isinstance(piece, str)) for prompt in prompts]
        return self._model.encode_prompts([[before, piece, after] for piece in embeddings])


Lead = Callable[[Case], Prompt]
WORDS, RESIDUAL = RefineConfig(mode="words"), RefineConfig(mode="residual")
LEARNED = RefineConfig(mode="learned", step_size=1.0)


def plain(config: RefineConfig) -> Lead:
    return lambda case: [case.refined(config).embeddings]


def norms_kept(case: Case) -> Prompt:
    """Direction only: every embedding keeps its norm."""
    found = case.refined(replace(WORDS, step_size=0.05))
    return [found.embeddings * (found.start.norm(dim=1) / found.embeddings.norm(dim=1))[:, None]]


def both(case: Case) -> Prompt:
    return [case.refined(replace(WORDS, step_size=0.02), start=case.refined(RESIDUAL).embeddings).embeddings]


def mirrored(case: Case) -> Prompt:
    assert case.ref.masks is not None
    ref = Reference(torch.cat([case.ref.images, case.ref.images.flip(2)]), torch.cat([case.ref.masks, case.ref.masks.flip(2)]))
    return [case.refined(replace(WORDS, step_size=0.02), ref=ref).embeddings]


def with_scene(config: RefineConfig) -> Lead:
    def lead(case: Case) -> Prompt:
        return [case.refined(config, model=ScenePrompts(case.world.model, scene_prompt(case.scene, 0, [""]))).embeddings]

    return lead


LEADS: dict[str, Lead] = {
    "residual 1e-4": plain(replace(RESIDUAL, step_size=1e-4)),
    "residual 3e-4": plain(replace(RESIDUAL, step_size=3e-4)),
    "residual 1e-3": plain(replace(RESIDUAL, step_size=1e-3)),
    "words .02": plain(replace(WORDS, step_size=0.02)),
    "words .05": plain(replace(WORDS, step_size=0.05)),
    "words .02, 25 steps": plain(replace(WORDS, step_size=0.02, steps=25)),
    "words .05, norms kept": norms_kept,
    "residual, then words": both,
    "words .02, times .35 to .75": plain(replace(WORDS, step_size=0.02, times=(0.35, 0.75))),
    "words .02, times .5 to 1": plain(replace(WORDS, step_size=0.02, times=(0.5, 1.0))),
    "words .02, photo and mirror image": mirrored,
    "words .02, prompts name the photo's scene (an oracle)": with_scene(replace(WORDS, step_size=0.02)),
    "prediction, class noun after the embeddings": lambda case: [*plain(replace(RESIDUAL, steps=0))(case), case.noun],
    "learned, 3 steps": plain(replace(LEARNED, steps=3)),
    "learned": plain(LEARNED),
    "learned, half steps": plain(replace(LEARNED, step_size=0.5)),
    "learned, 10 steps": plain(replace(LEARNED, steps=10)),
    "learned, batch 8": plain(replace(LEARNED, batch=8)),
    "learned, validation of 16 rows": plain(replace(LEARNED, validation=16)),
}
PROMISING = ("learned, half steps", "learned")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--confirm", action="store_true", help="the most promising leads on 128 other creatures, in 4 scenes each")
    options = parser.parse_args()
    identities, start, scenes, leads, out = (
        (128, 3000, 4, PROMISING, RESULT.with_stem("leads_confirmed")) if options.confirm else (32, 1000, 8, tuple(LEADS), RESULT)
    )
    world = load_miniature()
    who = creatures(split_numbers("tune", identities, start=start))
    refs = [reference_of(who, row) for row in range(len(who))]
    cases = [
        Case(world, ref, extract_features(world.model, world.clip, world.dino, ref), noun, reference_scene(who, row))
        for row, (ref, noun) in enumerate(zip(refs, class_nouns(who), strict=True))
    ]

    def measured(lead: Lead) -> tuple[Tensor, Tensor]:
        scores = evaluate(world.model, world.judge, who, [lead(case) for case in cases], EVALUATION_SCENES[:scenes])
        return scores.identity.mean(1), scores.prompt.mean(1)

    identity, prompt = measured(plain(replace(RESIDUAL, steps=0)))
    rows = [{"lead": "prediction", "identity": round(identity.mean().item(), 4), "prompt": round(prompt.mean().item(), 4)}]
    for name in tqdm(leads, desc="leads"):
        found, kept = measured(LEADS[name])
        gain, both_gain = found - identity, found - identity + kept - prompt
        rows.append(
            {
                "lead": name,
                "identity": round(found.mean().item(), 4),
                "prompt": round(kept.mean().item(), 4),
                "gain": round(gain.mean().item(), 4),
                "gain_ci95": interval(gain),
                "gain_with_prompt_ci95": interval(both_gain),
                "passes": interval(both_gain)[0] > 0,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    result = {**provenance(command_line("leads")), "tune_identities": identities, "scenes": scenes, "steps": 5, "rows": rows}
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
