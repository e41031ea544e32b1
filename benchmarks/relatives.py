"""What the parts of HyperDreamBooth and InstantBooth are worth, on test creatures of the miniature.

    python -m benchmarks.relatives

writes benchmarks/results/relatives.json: for each arm identity and prompt accuracy with their 95 % intervals, and the paired difference in
identity to the arm that it is compared with. Every arm draws the same creatures in the same scenes from the same noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from hybridbooth_core.encoders.features import Reference, extract_features, reference
from hybridbooth_core.evaluation.statistics import interval, mean_of, paired
from hybridbooth_core.files.adapter_weights import AdapterWeights
from hybridbooth_core.methods.artefact import Artefact
from hybridbooth_core.methods.hyperdreambooth import HyperDreamBoothConfig, finetune
from hybridbooth_core.methods.registry import METHODS
from hybridbooth_core.miniature.bundle import Miniature, load_adapter, load_hypernetwork, load_miniature
from hybridbooth_core.miniature.evaluate import EVALUATION_SCENES, Scores, class_nouns, draw, join, reference_of, score
from hybridbooth_core.miniature.render import render
from hybridbooth_core.miniature.training.learners import TOKEN
from hybridbooth_core.miniature.world import Creatures, creatures, random_scenes, repeat, split_numbers
from hybridbooth_core.models.adapter import Prompt, TrainableModel
from hybridbooth_core.models.seeds import new_generator
from hybridbooth_core.probe.hypernetwork import Hypernetwork
from hybridbooth_core.probe.learner import Features
from hybridbooth_core.probe.reading import Reading

from .outside.rows import captions_of
from .provenance import RESULTS, command_line, provenance

SEEDS = (0, 1)
SCENE = 1 << 20
"""Added to a creature's number for the scenes of its further photos; of a seed the low 32 bits count."""


@dataclass(frozen=True, eq=False)
class Brought:
    """One creature as a method sees it: its photos' features by their number, the first photo, its noun and what the photo shows."""

    who: Creatures
    ref: Reference
    features: dict[int, Features]
    noun: str
    caption: str


@dataclass(frozen=True, eq=False)
class Weighted:
    """A reading at an alpha and a beta, as an artefact."""

    reading: Reading
    alpha: float
    beta: float

    def save(self, path: Path, overwrite: bool = False) -> None:
        self.reading.save(path, overwrite)

    @contextmanager
    def applied(self, model: TrainableModel, strength: float = 1.0) -> Iterator[Prompt]:
        with self.reading.applied(model, strength, self.alpha, self.beta) as pieces:
            yield pieces


Make = Callable[[Miniature, Brought], Artefact]


def reading(images: int = 1, alpha: float = 1.0, beta: float = 1.0) -> Make:
    adapter = load_adapter()
    return lambda world, one: Weighted(Reading.of(adapter, world.model, one.features[images], one.noun), alpha, beta)


def predicted(network: Hypernetwork) -> Make:
    return lambda world, one: network.predict(world.model, one.features[1], one.noun)


def finetuned(network: Hypernetwork | None, captioned: bool) -> Make:
    config: HyperDreamBoothConfig = METHODS["hyperdreambooth"].configuration("miniature")

    def make(world: Miniature, one: Brought) -> Artefact:
        start = None if network is None else network.predict(world.model, one.features[1], one.noun)
        assert start is None or isinstance(start, AdapterWeights)
        told = replace(config, caption=one.caption if captioned else "")
        return finetune(world.model, one.ref, start, one.noun, TOKEN, told).artefact

    return make


def with_iterations(count: int) -> Hypernetwork:
    """The shipped hypernetwork, correcting itself so many times."""
    network = load_hypernetwork()
    network.config = replace(network.config, iterations=count)
    return network


def arms() -> dict[str, tuple[str, Make]]:
    """By name: the arm that it is compared with, and how a subject is made."""
    network = load_hypernetwork()
    return {
        "instantbooth": ("instantbooth", reading()),
        "instantbooth, 3 images": ("instantbooth", reading(3)),
        "instantbooth, 5 images": ("instantbooth", reading(5)),
        "instantbooth, no adapter layers (beta 0)": ("instantbooth", reading(beta=0.0)),
        "instantbooth, no concept token (alpha 0)": ("instantbooth", reading(alpha=0.0)),
        "instantbooth, beta 0.3": ("instantbooth", reading(beta=0.3)),
        "instantbooth, alpha 0.4": ("instantbooth", reading(alpha=0.4)),
        "instantbooth, alpha 0.4 and beta 0.3 (the paper's)": ("instantbooth", reading(alpha=0.4, beta=0.3)),
        "hypernetwork": ("hypernetwork", predicted(network)),
        "hypernetwork, 1 iteration": ("hypernetwork", predicted(with_iterations(1))),
        "hypernetwork, 4 iterations": ("hypernetwork", predicted(with_iterations(4))),
        "hyperdreambooth, scene said": ("hypernetwork", finetuned(network, captioned=True)),
        "no hypernetwork: 40 steps from nothing, scene said": ("hyperdreambooth, scene said", finetuned(None, captioned=True)),
    }


def brought(world: Miniature, who: Creatures, row: int) -> Brought:
    """A creature with photos in 1, 3 and 5 scenes; the first is the one that every method gets."""
    first = reference_of(who, row)
    images, masks = [first.images], [first.masks]
    for number in range(4):
        where = random_scenes(1, new_generator(int(who.number[row]) + (number + 1) * SCENE))
        more, mask = render(who[row : row + 1], where)
        images.append(more)
        masks.append(mask)
    features = {}
    for count in (1, 3, 5):
        ref = first if count == 1 else reference(torch.cat(images[:count]), torch.cat([m for m in masks[:count] if m is not None]))
        features[count] = extract_features(world.model, world.clip, world.dino, ref)
    return Brought(who[row : row + 1], first, features, class_nouns(who)[row], captions_of(who)[row])


def scores_of(world: Miniature, artefacts: Sequence[Artefact], who: Creatures) -> Scores:
    """Scores [N, S x seeds], drawn subject by subject."""
    where, rows = join(EVALUATION_SCENES), []
    for row, artefact in enumerate(artefacts):
        with artefact.applied(world.model) as pieces, torch.no_grad():
            images = [draw(world.model, who[row : row + 1], [list(pieces)], EVALUATION_SCENES, seed, first=row)[0] for seed in SEEDS]
        parts = [score(world.judge, one, repeat(who[row : row + 1], len(where)), where, (1, len(where))) for one in images]
        rows.append({name: torch.cat([getattr(part, name) for part in parts], 1) for name in ("identity", "prompt", "kind")})
    return Scores(*(torch.cat([row[name] for row in rows]) for name in ("identity", "prompt", "kind")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=32)
    parser.add_argument("--out", type=Path, default=RESULTS / "relatives.json")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    world = load_miniature()
    who = creatures(split_numbers("test", chosen.identities))
    everyone = [brought(world, who, row) for row in range(len(who))]
    found: dict[str, Scores] = {}
    for name, (_, make) in tqdm(arms().items(), desc="arms"):
        found[name] = scores_of(world, [make(world, one) for one in everyone], who)
        print(name, round(found[name].identity.mean().item(), 4), round(found[name].prompt.mean().item(), 4), flush=True)
    result = {
        **provenance(command_line("relatives")), "identities": len(who), "scenes": len(EVALUATION_SCENES), "sampling_seeds": len(SEEDS),
        "rows": [table_row(name, beside, found) for name, (beside, _) in arms().items()],
    }  # fmt: skip
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def table_row(name: str, beside: str, found: dict[str, Scores]) -> dict:
    """One arm with the paired difference to the one beside it, by creature."""
    identity, prompt, other = found[name].identity.mean(1), found[name].prompt.mean(1), found[beside]
    row: dict = {"arm": name, "identity": mean_of(identity), "identity_ci95": interval(identity), "prompt": mean_of(prompt)}
    if name != beside:
        row |= {"against": beside, "identity_difference": paired(identity, other.identity.mean(1))}
        row |= {"prompt_difference": paired(prompt, other.prompt.mean(1))}
    return row


if __name__ == "__main__":
    main()
