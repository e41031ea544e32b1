"""Is the shipped probe of the miniature better than another one, and how well do both read other views of the one image?

    git show REVISION:hybridbooth_core/miniature/weights/probe.safetensors > former.safetensors
    python -m benchmarks.compare_probes former.safetensors

writes benchmarks/results/compare_probes.json. Both probes read the same images of the same test creatures: cropped as a user's
masked image is, mirrored, with a narrower and a wider crop, and without a mask. Identity and prompt as in main_job.py; differences are
the shipped probe's minus the other's, paired by creature, with 95 % bootstrap intervals. `refined` is after the default steps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from hybridbooth_core.encoders.features import Reference, square_crops
from hybridbooth_core.evaluation.statistics import interval, paired
from hybridbooth_core.miniature.bundle import Miniature, load_miniature
from hybridbooth_core.miniature.evaluate import Scores, class_nouns, evaluate, reference_of
from hybridbooth_core.miniature.world import Creatures, creatures, split_numbers
from hybridbooth_core.models.adapter import class_embedding
from hybridbooth_core.probe.probe import Features, Probe
from hybridbooth_core.refine.personalize import personalize

from .provenance import RESULTS, command_line, probe_digest, provenance

RESULT = RESULTS / "compare_probes.json"

View = Callable[[Reference, int], Tensor]


def cropped(ref: Reference, size: int, margin: float = 0.12, mirrored: bool = False, masked: bool = True) -> Tensor:
    """What the encoders see of a reference, [1, size, size, 3]."""
    crop = square_crops(ref.images, ref.masks if masked else None, size, margin)
    return crop.flip(2) if mirrored else crop


VIEWS: dict[str, View] = {
    "as given": cropped,
    "mirrored": partial(cropped, mirrored=True),
    "narrower crop": partial(cropped, margin=0.02),
    "wider crop": partial(cropped, margin=0.3),
    "without a mask": partial(cropped, masked=False),
}


def features_of(world: Miniature, ref: Reference, view: View) -> Features:
    """What a probe sees of a reference."""
    with torch.no_grad():
        crop = view(ref, world.clip.size)
        return Features(world.clip(crop), world.dino(crop), world.model.encode_image(crop))


def predictions(world: Miniature, probe: Probe, who: Creatures, view: View) -> list[Tensor]:
    """The embeddings of every creature, predicted from one view of its image."""
    embeddings = []
    for row, noun in enumerate(class_nouns(who)):
        with torch.no_grad():
            embeddings.append(probe(features_of(world, reference_of(who, row), view), class_embedding(world.model, noun))[0])
    return embeddings


def refined(world: Miniature, probe: Probe, who: Creatures) -> list[Tensor]:
    """The embeddings of every creature after the default steps."""
    embeddings = []
    for row, noun in enumerate(tqdm(class_nouns(who), desc="refining")):
        ref = reference_of(who, row)
        embeddings.append(personalize(world.model, probe, ref, features_of(world, ref, cropped), noun).subject.embeddings)
    return embeddings


def compared(scores: dict[str, Scores]) -> dict[str, dict]:
    """Means and intervals of both, and their paired difference."""
    found: dict[str, dict] = {}
    for name in ("identity", "prompt"):
        values = {probe: getattr(score, name).mean(1) for probe, score in scores.items()}
        found[name] = {probe: {"mean": round(v.mean().item(), 4), "ci95": interval(v)} for probe, v in values.items()}
        found[name]["difference"] = paired(values["shipped"], values["other"])
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("other", type=Path, help="a probe for the miniature")
    options.add_argument("--identities", type=int, default=32)
    options.add_argument("--out", type=Path, default=RESULT)
    chosen = options.parse_args()
    world, who = load_miniature(), creatures(split_numbers("test", chosen.identities))
    probes = {"shipped": world.probe, "other": Probe.load(chosen.other)}
    digests = {"shipped": probe_digest(), "other": probe_digest(chosen.other)}
    rows = {}
    for view, seen in VIEWS.items():
        embeddings = {name: predictions(world, probe, who, seen) for name, probe in probes.items()}
        rows[view] = compared({name: evaluate(world.model, world.judge, who, subject) for name, subject in embeddings.items()})
        print(view, json.dumps(rows[view]["identity"]["difference"]), flush=True)
    steps = {name: refined(replace(world, probe=probe), probe, who) for name, probe in probes.items()}
    rows["refined, as given"] = compared({name: evaluate(world.model, world.judge, who, subject) for name, subject in steps.items()})
    result = {
        **provenance(command_line("compare_probes")),
        "n_identities": chosen.identities,
        "probes": {
            name: {"regressor": probe.config.regressor, "parameters": sum(p.numel() for p in probe.parameters()), "digest": digests[name]}
            for name, probe in probes.items()
        },
        "rows": rows,
    }
    chosen.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
