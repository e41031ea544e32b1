"""From the ablations' units to `ablations.json`: rows with spread over identities and over probe seeds, and the paper's claims.

Axes: P probe seeds, N identities.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from hybridbooth_core.evaluation.statistics import interval, mean_of, paired
from hybridbooth_core.miniature.bundle import Miniature

from ..provenance import provenance
from .ablations import STEPS, TITLES, AblationPlan, Trainer, ablation_tasks, stacked
from .pool import in_pool, run_tasks
from .run import machine, write_json
from .store import Store
from .verdicts import claim

SCORES = ("identity", "prompt", "kind", "dino_i", "clip_i", "clip_t", "leakage")
TABLE = "ablation table (CelebA-HQ)"


def train_variant(world: Miniature, name: str, seed: int, folder: Path) -> Miniature:
    """`Trainer`: the shipped world with a freshly trained variant of its probe."""
    from .ablation_probes import ABLATIONS, encoders, train_ablation

    clip, dino = encoders(world, ABLATIONS[name])
    probe = train_ablation(world, name, seed, folder)
    return Miniature(**{**vars(world), "probe": probe, "clip": clip, "dino": dino})


def train_variant_briefly(world: Miniature, name: str, seed: int, folder: Path) -> Miniature:
    """`Trainer`: the same for two steps, a trial of the machinery."""
    from .ablation_probes import ABLATIONS, SHORT, encoders, train_ablation

    clip, dino = encoders(world, ABLATIONS[name])
    log = replace(SHORT.log, validation_samples=2)
    probe = train_ablation(world, name, seed, folder / "brief", replace(SHORT, steps=2, batch=2, micro_batch=2, log=log))
    return Miniature(**{**vars(world), "probe": probe, "clip": clip, "dino": dino})


def run_ablations(
    plan: AblationPlan, trainer: Trainer, work: Path, out: Path, jobs: int = 1, command: str = "python -m benchmarks.family --ablations"
) -> dict:
    """Train and measure every variant that is not in `work` yet and write the results to `out` in one stroke."""
    records = list(run_tasks(ablation_tasks(plan, trainer, work / "probes"), Store(work), in_pool(jobs), "ablations").values())
    variants: dict[str, list[dict]] = {}
    for record in records:
        variants.setdefault(record["variant"], []).append(record)
    result = {
        **provenance(command),
        "machine": machine(),
        "training": plan.training,
        "probe_seeds": list(plan.probe_seeds),
        "n_identities": plan.drawing.identities,
        "n_prompts": plan.drawing.prompts,
        "sampling_seeds": 1,
        "rows": [row for name in TITLES if name in variants for row in variant_rows(name, variants)],
        "claims": ablation_claims(variants),
    }
    write_json(result, out)
    return result


def variant_rows(name: str, variants: dict[str, list[dict]]) -> list[dict]:
    """A variant's rows, for the prediction and the refinement. Intervals are over identities, of means over probe seeds.

    `identity_seeds` are the means of the single probes; `minus_full` is paired by identity, and by seed where both have the same seeds.
    """
    rows = []
    for steps in STEPS:
        row: dict = {"variant": name, "title": TITLES[name], "steps": steps}
        for score in SCORES:
            values = stacked(variants[name], steps, score)
            row |= {score: mean_of(values), f"{score}_ci95": interval(values.mean(0))}
            row[f"{score}_seeds"] = [mean_of(one) for one in values]
        if name != "full" and "full" in variants:
            row["minus_full"] = {score: _difference(variants, (name, steps), ("full", steps), score) for score in SCORES}
        rows.append(row)
    return rows


def _difference(variants: dict[str, list[dict]], more: tuple[str, int], less: tuple[str, int], score: str) -> dict:
    """Paired by identity, means over probe seeds; `seeds` are the differences seed by seed."""
    a, b = (stacked(variants[name], steps, score) for name, steps in (more, less))
    return paired(a.mean(0), b.mean(0)) | {"seeds": [mean_of(one) for one in _seedwise(a, b)]}


def _seedwise(a: Tensor, b: Tensor) -> Tensor:
    """Differences [P, N]; what has one run only (no probe, no seed) is compared with every seed of the other."""
    if len(a) != len(b) and min(len(a), len(b)) > 1:
        raise ValueError(f"expected equally many probe seeds, found {len(a)} and {len(b)}")
    return a - b


def ablation_claims(variants: dict[str, list[dict]]) -> list[dict]:
    """The claims of the paper's ablation table. One holds if its differences are clear of 0 and have one sign in every probe seed."""

    def differences(more: tuple[str, int], less: tuple[str, int], scores: tuple[str, ...]) -> dict[str, dict] | None:
        if more[0] not in variants or less[0] not in variants:
            return None
        return {score: _difference(variants, more, less, score) for score in scores}

    def judged(text: str, source: str, found: dict[str, dict] | None) -> dict:
        steady = found is None or all(value > 0 for difference in found.values() for value in difference["seeds"])
        return claim(text, source, found, None if steady else "does not hold")

    three = ("clip_t", "clip_i", "dino_i")
    full = ("full", 5)
    found = [judged("refinement raises CLIP-T, CLIP-I and DINO-I", TABLE, differences(full, ("full", 0), three))]
    for name, part in (("no_probe", "the probe"), ("no_dino", "DINO"), ("no_clip", "CLIP"), ("no_mask", "mask regularisation")):
        found.append(judged(f"{part} raises CLIP-T, CLIP-I and DINO-I", TABLE, differences(full, (name, 5), three)))
    source = "first experiment, section 6"
    found.append(judged("five steps without a probe reach less identity", source, differences(full, ("no_probe", 5), ("identity",))))
    found.append(claim("mask regularisation keeps prompts when training prompts never name the scene", source, None, "not measured"))
    found.append(claim("K, Q and V of the cross-attentions are the best layers to refine", "text", None, "not measured"))
    return found


def summary(result: dict) -> str:
    """A few lines for the terminal."""
    lines = [f"{'variant':42} {'steps':>5} {'identity':>9} {'prompt':>7}"]
    lines += [f"{row['title']:42} {row['steps']:5} {row['identity']:9.3f} {row['prompt']:7.3f}" for row in result["rows"]]
    return "\n".join([*lines, *(f"{verdict['outcome']}: {verdict['claim']}" for verdict in result["claims"])])
