"""Do the constants that the paper prints move anything? Its optimizer with nine pairs of lambda and learning rate, on tune creatures.

    python -m benchmarks.constants

writes benchmarks/results/constants.json. The paper's pair is lambda 1e-2 and lr 2e-5; every pair takes five steps from the shipped probe.
`moved` is how far the embeddings moved, relative to their norm.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from hybridbooth_core.encoders.features import extract_features
from hybridbooth_core.miniature.bundle import Miniature, load_miniature
from hybridbooth_core.refine import updates
from hybridbooth_core.refine.config import RefineConfig
from hybridbooth_core.refine.personalize import personalize

from .family.ablations import by_score, mean_scores
from .family.plan import TUNE_START, Plan
from .family.subjects import client
from .provenance import RESULTS, command_line, provenance

LAMBDAS, RATES = (1e-2, 1e-1, 1.0), (2e-5, 3e-3, 3e-2)
PLAN = Plan(prompts=4)


def measure_constants(world: Miniature, plan: Plan, scale: float, rate: float) -> dict[str, float]:
    """Five steps of the paper's own optimizer with this lambda and learning rate: means over the plan's tune creatures."""
    rows, moved = [], []
    for row in range(plan.tune_identities):
        someone = client("tune", row + TUNE_START)
        features = extract_features(world.model, world.clip, world.dino, someone.ref)
        with printed_constants(scale, rate):
            made = personalize(world.model, world.probe, someone.ref, features, someone.noun, RefineConfig(mode="paper_literal"))
        rows.append(mean_scores(world, made.subject, someone, row, plan, plan.seeds[:1]))
        moved.append(made.refinement.relative_changes[-1])
    scores = {name: fmean(values) for name, values in by_score(rows).items()}
    return {"lambda": scale, "lr": rate, "product": scale * rate, "moved": fmean(moved)} | scores


@contextmanager
def printed_constants(scale: float, rate: float) -> Iterator[None]:
    """While open, the mode "paper_literal" has other constants than those that the paper prints.

    They are constants of `updates` and no option of it: nothing but this measurement needs others.
    """
    before = updates.PAPER_LAMBDA, updates.PAPER_LR
    updates.PAPER_LAMBDA, updates.PAPER_LR = scale, rate
    try:
        yield
    finally:
        updates.PAPER_LAMBDA, updates.PAPER_LR = before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "constants.json")
    options = parser.parse_args()
    world, pairs = load_miniature(), [(scale, rate) for scale in LAMBDAS for rate in RATES]
    rows = [measure_constants(world, PLAN, scale, rate) for scale, rate in tqdm(pairs, desc="pairs")]
    rounded = [{name: float(f"{value:.4g}") for name, value in row.items()} for row in rows]
    result = {**provenance(command_line("constants")), "tune_creatures": PLAN.tune_identities, "scenes": PLAN.prompts, "rows": rounded}
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
