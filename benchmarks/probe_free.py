"""A start without a probe, measured: what CLIP finds, what steps on the embeddings add, and how far a trained probe is ahead.

    python -m benchmarks.probe_free --search
    python -m benchmarks.probe_free --confirm
    python -m benchmarks.probe_free

The first compares settings on 32 tune creatures and writes them into benchmarks/results/probe_free.json; the second compares the best of
them on 64 others, since single creatures differ by more than settings do; the third measures the methods on test creatures. Each keeps
what the others wrote. All rows draw the same creatures in the same eight scenes from the same noise. Identity is the
judge's cosine to a true render (1 the same creature, 0 another), prompt the share of images in which every word of the scene came true.
Intervals are over creatures (95 %, bootstrap), paired where two rows are compared.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from hybridbooth_core.encoders.features import Reference, extract_features
from hybridbooth_core.evaluation.statistics import interval, mean_of, paired
from hybridbooth_core.miniature.bundle import Miniature, load_miniature
from hybridbooth_core.miniature.evaluate import EVALUATION_SCENES, class_nouns, evaluate, reference_of
from hybridbooth_core.miniature.world import Creatures, creatures, split_numbers
from hybridbooth_core.models.adapter import Piece, class_embedding
from hybridbooth_core.probe_free.inversion import InversionConfig
from hybridbooth_core.probe_free.nouns import single_words
from hybridbooth_core.probe_free.refining import REFINING
from hybridbooth_core.probe_free.start import Start, StartConfig, initial_embeddings
from hybridbooth_core.probe_free.words import NOUNS
from hybridbooth_core.refine.many import refine_many
from hybridbooth_core.refine.personalize import personalize
from hybridbooth_core.refine.refine import RefineConfig

from .provenance import RESULTS, command_line, provenance

RESULT = RESULTS / "probe_free.json"
PLAIN = InversionConfig(steps=0)
NOUN = StartConfig(inversion=PLAIN)
ATTRIBUTES = StartConfig(attributes=True, inversion=PLAIN)
TUNE_START, CONFIRM_START = 5000, 5100  # of the tune creatures; no other search uses these


@dataclass(frozen=True, eq=False)
class Cases:
    """Creatures as a method sees them."""

    world: Miniature
    refs: list[Reference]
    nouns: list[str]

    @cache  # noqa: B019  (one object for the whole run)
    def starts(self, config: StartConfig, retrieve_noun: bool = False) -> list[Start]:
        """Initial embeddings of each, from the true noun or from the one that CLIP finds."""
        said = ["" if retrieve_noun else noun for noun in self.nouns]
        return [
            initial_embeddings(self.world.model, self.world.space, ref, noun, config) for ref, noun in zip(self.refs, said, strict=True)
        ]

    def first(self, config: StartConfig, retrieve_noun: bool = False) -> list[Tensor]:
        return [start.subject.embeddings for start in self.starts(config, retrieve_noun)]

    def refined(self, config: StartConfig, retrieve_noun: bool = False, **changes) -> list[Tensor]:
        """What `personalize_without_probe` does, for all at once."""
        embeddings = self.first(config, retrieve_noun)
        vectors = [class_embedding(self.world.model, noun) for noun in self.nouns]  # of the probe alone, which is not asked
        return [r.embeddings for r in refine_many(self.world.model, self.refs, vectors, replace(REFINING, **changes), starts=embeddings)]

    def probed(self, steps: int) -> list[Tensor]:
        w, config = self.world, RefineConfig(steps=steps)
        features = [extract_features(w.model, w.clip, w.dino, ref) for ref in self.refs]
        of_each = zip(self.refs, features, self.nouns, strict=True)
        return [personalize(w.model, w.probe, ref, read, noun, config).subject.embeddings for ref, read, noun in of_each]


Method = Callable[[Cases], Sequence[Piece]]
TURNED = StartConfig(inversion=InversionConfig(60, 0.05, context=0.0))
HELD = StartConfig(inversion=InversionConfig(60, 0.05, context=1.0))
HELD_ATTRIBUTES = replace(HELD, attributes=True)
BASELINE = "class noun, steps of .2"
SEARCH: dict[str, Method] = {
    BASELINE: lambda cases: cases.refined(NOUN, step_size=0.2),
    "class noun, steps of .1": lambda cases: cases.refined(NOUN, step_size=0.1),
    "class noun, steps of .3": lambda cases: cases.refined(NOUN, step_size=0.3),
    "attributes, steps of .2": lambda cases: cases.refined(ATTRIBUTES, step_size=0.2),
    "attributes, steps of .1": lambda cases: cases.refined(ATTRIBUTES, step_size=0.1),
    "inversion, steps of .2": lambda cases: cases.refined(TURNED, step_size=0.2),
    "inversion held in other sentences, steps of .2": lambda cases: cases.refined(HELD, step_size=0.2),
    "inversion held in other sentences, steps of .1": lambda cases: cases.refined(HELD, step_size=0.1),
    "attributes, inversion held in other sentences, steps of .2": lambda cases: cases.refined(HELD_ATTRIBUTES, step_size=0.2),
    "attributes, inversion held in other sentences, steps of .1": lambda cases: cases.refined(HELD_ATTRIBUTES, step_size=0.1),
}
PROMISING = ("attributes, steps of .1", "inversion held in other sentences, steps of .2")
METHODS: dict[str, Method] = {
    "class_noun": lambda cases: cases.nouns,
    "class_noun_30": lambda cases: cases.refined(NOUN),
    "retrieved": lambda cases: cases.first(ATTRIBUTES, retrieve_noun=True),
    "inversion": lambda cases: cases.first(StartConfig()),
    "probe_free_20": lambda cases: cases.refined(StartConfig(), steps=20),
    "probe_free": lambda cases: cases.refined(StartConfig()),
    "probe_free_40": lambda cases: cases.refined(StartConfig(), steps=40),
    "probe_free_retrieved_noun": lambda cases: cases.refined(StartConfig(), retrieve_noun=True),
    "probe": lambda cases: cases.probed(0),
    "probe_refined": lambda cases: cases.probed(5),
}
"""`probe_free` is the default: the true class noun, inversion, 30 steps."""
GAPS = (
    ("class_noun_30", "class_noun"),
    ("inversion", "class_noun"),
    ("retrieved", "class_noun"),
    ("probe_free", "class_noun"),
    ("probe_free", "class_noun_30"),
    ("probe_free", "probe_free_20"),
    ("probe_free_40", "probe_free"),
    ("probe_free_retrieved_noun", "probe_free"),
    ("probe", "probe_free"),
    ("probe_refined", "probe_free"),
)


def cases_of(world: Miniature, who: Creatures) -> Cases:
    return Cases(world, [reference_of(who, row) for row in range(len(who))], class_nouns(who))


def search(world: Miniature, identities: int, start: int, settings: Sequence[str]) -> dict:
    """Settings on tune creatures in four scenes; `sum` is identity + prompt, by which the defaults were chosen."""
    who = creatures(split_numbers("tune", identities, start=start))
    cases, rows, sums = cases_of(world, who), {}, {}
    for name in dict.fromkeys((BASELINE, *settings)):
        scores = evaluate(world.model, world.judge, who, SEARCH[name](cases), EVALUATION_SCENES[:4])
        sums[name] = scores.identity.mean(1) + scores.prompt.mean(1)
        rows[name] = {
            "identity": mean_of(scores.identity),
            "prompt": mean_of(scores.prompt),
            "sum_gain": paired(sums[name], sums[BASELINE]),
        }
        print(name, rows[name], flush=True)
    return {"tune_creatures": identities, "scenes": 4, "steps": REFINING.steps, "compared_with": BASELINE, "settings": rows}


def measure(world: Miniature, identities: int) -> dict:
    """Every method on test creatures in all scenes."""
    who = creatures(split_numbers("test", identities))
    cases, rows, scores = cases_of(world, who), {}, {}
    for name, method in METHODS.items():
        scores[name] = evaluate(world.model, world.judge, who, method(cases))
        rows[name] = {
            **{field: mean_of(getattr(scores[name], field)) for field in ("identity", "prompt", "kind")},
            **{f"{field}_ci95": interval(getattr(scores[name], field).mean(1)) for field in ("identity", "prompt")},
        }
        print(name, rows[name], flush=True)

    def gap(better: str, worse: str) -> dict:
        return {
            field: paired(getattr(scores[better], field).mean(1), getattr(scores[worse], field).mean(1)) for field in ("identity", "prompt")
        }

    found = [start.retrieved.noun for start in cases.starts(NOUN, retrieve_noun=True)]
    return {
        "test_creatures": identities,
        "scenes": len(EVALUATION_SCENES),
        "noun_found": round(sum(a == b for a, b in zip(found, cases.nouns, strict=True)) / identities, 4),
        "nouns_in_the_list": len(single_words(world.model, NOUNS)),
        "rows": rows,
        "gaps": {f"{a} - {b}": gap(a, b) for a, b in GAPS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", action="store_true", help="compare settings on tune creatures")
    parser.add_argument("--confirm", action="store_true", help="compare the best of them on others")
    parser.add_argument("--identities", type=int, help="default 32, to confirm 64")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    world = load_miniature()
    result = json.loads(options.out.read_text()) if options.out.exists() else {}
    if options.confirm:
        part, found = "confirmed", search(world, options.identities or 64, CONFIRM_START, PROMISING)
    elif options.search:
        part, found = "search", search(world, options.identities or 32, TUNE_START, tuple(SEARCH))
    else:
        part, found = "measured", measure(world, options.identities or 32)
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    result[part] = {**provenance(command_line("probe_free")), **found, "machine": machine}
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
