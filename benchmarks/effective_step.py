"""How far one step should go: a sweep of the effective step on tune creatures, for both modes of refinement.

    python benchmarks/effective_step.py

writes benchmarks/results/effective_step.json. The probe's file recommends the winners (RESIDUAL_STEP and WORDS_STEP in
hybridbooth_core/miniature/training/probe.py); test creatures play no part in the choice.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from hybridbooth_core.features import extract_features
from hybridbooth_core.miniature.bundle import load_miniature
from hybridbooth_core.miniature.evaluate import class_nouns, evaluate, reference_of
from hybridbooth_core.miniature.world import creatures, split_numbers
from hybridbooth_core.personalize import personalize
from hybridbooth_core.refine import Mode, RefineConfig

RESULT = Path(__file__).parent / "results" / "effective_step.json"
GRID: dict[Mode, tuple[float, ...]] = {"residual": (3e-4, 1e-3, 4e-3), "words": (0.02, 0.05, 0.1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=24)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    world = load_miniature()
    who = creatures(split_numbers("tune", options.identities, start=1000))
    nouns, refs = class_nouns(who), [reference_of(who, row) for row in range(len(who))]
    features = [extract_features(world.model, world.clip, world.dino, ref) for ref in refs]
    rows = []
    settings: list[tuple[Mode, float | None]] = [(mode, step) for mode, steps in GRID.items() for step in steps]
    settings.insert(0, ("residual", None))  # the probe alone, to compare with
    for mode, step in tqdm(settings, desc="settings"):
        config = RefineConfig(mode=mode, steps=0 if step is None else 5, effective_step=step)
        results = [
            personalize(world.model, world.probe, ref, f, noun, config).refinement
            for ref, f, noun in zip(refs, features, nouns, strict=True)
        ]
        scores = evaluate(world.model, world.judge, who, [r.words for r in results])
        rows.append(
            {
                "mode": mode,
                "effective_step": step,
                "identity": round(scores.identity.mean().item(), 4),
                "prompt": round(scores.prompt.mean().item(), 4),
                "class": round(scores.kind.mean().item(), 4),
                "moved": None if step is None else float(f"{sum(r.moves[-1] for r in results) / len(results):.3g}"),
                "validation": round(sum(min(r.validation) for r in results) / len(results), 5),
            }
        )
    best = {
        mode: max((row for row in rows if row["mode"] == mode and row["effective_step"]), key=lambda row: row["identity"] + row["prompt"])
        for mode in GRID
    }
    result = {"command": "python benchmarks/effective_step.py", "tune_identities": options.identities, "best": best, "rows": rows}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
