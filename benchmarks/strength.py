"""What a subject's strength does: identity and prompt over 0, 0.25 ... 2, as it is and as it was.

    python -m benchmarks.strength

writes benchmarks/results/strength.json. The embeddings at a strength lie on the line from the class noun to the subject; how far along it
was the strength itself until 0.1, and is `files.subject.reach` since. Subjects: the probe's, refined as by default, and those made without
a probe (from_noun), for the same creatures. `reach` was chosen on tune creatures; test creatures confirm it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from hybridbooth_core.evaluation.statistics import interval, mean_of
from hybridbooth_core.files.subject import reach
from hybridbooth_core.methods.registry import run_method
from hybridbooth_core.miniature.bundle import Miniature, load_miniature
from hybridbooth_core.miniature.evaluate import class_nouns, evaluate, reference_of
from hybridbooth_core.miniature.world import Creatures, creatures, split_numbers
from hybridbooth_core.models.adapter import class_embedding
from hybridbooth_core.refine.refine import RefineConfig

from .main_job import refined
from .provenance import RESULTS, command_line, provenance

RESULT = RESULTS / "strength.json"
STRENGTHS = tuple(step / 4 for step in range(9))
Line = list[tuple[str, Tensor, Tensor]]  # for each creature its class noun, the noun's embedding [d] and the subject's [n, d]


def probe_line(world: Miniature, who: Creatures) -> Line:
    """The default subjects of a probe."""
    ends = [found.embeddings for found in refined(world, who, RefineConfig())]
    return [(noun, class_embedding(world.model, noun), end) for noun, end in zip(class_nouns(who), ends, strict=True)]


def noun_line(world: Miniature, who: Creatures) -> Line:
    """Subjects made without a probe."""
    line = []
    for row, noun in enumerate(tqdm(class_nouns(who), desc="from_noun")):
        made = run_method("from_noun", world.model, reference_of(who, row), noun).artefact
        line.append((noun, class_embedding(world.model, noun), made.embeddings))  # type: ignore[attr-defined]
    return line


def along(world: Miniature, who: Creatures, line: Line, places: Sequence[float]) -> dict[str, Any]:
    """Scores at each place along the line: 0 is the class noun as text, 1 the subject."""
    scores: dict[str, Any] = {}
    for place in tqdm(places, desc="drawing"):
        subjects = [noun if place == 0 else start + place * (end - start) for noun, start, end in line]
        found = evaluate(world.model, world.judge, who, subjects)
        identity, prompt, kind = (getattr(found, name).mean(1) for name in ("identity", "prompt", "kind"))
        scores[f"{place:.6g}"] = {
            "identity": mean_of(identity), "identity_ci95": interval(identity), "prompt": mean_of(prompt), "class": mean_of(kind),
        }  # fmt: skip
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--creatures", type=int, default=32, help="tune creatures of the probe's subjects (default: %(default)s)")
    parser.add_argument("--others", type=int, default=16, help="tune creatures without a probe, and test creatures (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    world = load_miniature()
    now = [reach(strength) for strength in STRENGTHS]
    both = sorted({*now, *STRENGTHS})
    result: dict[str, Any] = {**provenance(command_line("strength")), "strengths": STRENGTHS, "reach": [round(place, 6) for place in now]}
    runs = (
        ("probe_tune", "tune", options.creatures, probe_line, both),
        ("noun_tune", "tune", options.others, noun_line, both),
        ("probe_test", "test", options.others, probe_line, now),
        ("noun_test", "test", options.others, noun_line, now),
    )
    for name, split, count, make, places in runs:
        who = creatures(split_numbers(split, count))
        result[name] = {"creatures": count, "along": along(world, who, make(world, who), places)}
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
