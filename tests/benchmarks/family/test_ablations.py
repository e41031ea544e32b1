"""The ablations, with a trainer that trains nothing: what is paired with what, and what is kept."""

from __future__ import annotations

import json

import pytest

from benchmarks.family.__main__ import main
from benchmarks.family.ablation_probes import ABLATIONS
from benchmarks.family.ablation_results import ablation_claims, run_ablations, variant_rows
from benchmarks.family.ablations import AblationPlan


def records(variants: dict[str, list[float]], spread: float = 0.01, seeds: int = 3) -> dict[str, list[dict]]:
    """Made-up units: `variants` gives the score at 0 and at 5 steps, the same in every measure."""
    names = ("identity", "prompt", "kind", "dino_i", "clip_i", "clip_t", "leakage")
    return {
        variant: [
            {
                "variant": variant,
                "seed": seed,
                "after": {
                    str(steps): {name: [level + spread * seed + 0.001 * row for row in range(8)] for name in names}
                    for steps, level in zip((0, 5), levels, strict=True)
                },
            }
            for seed in range(1 if variant == "no_probe" else seeds)
        ]
        for variant, levels in variants.items()
    }


def outcome(variants: dict[str, list[dict]], part: str) -> str:
    (found,) = [claim["outcome"] for claim in ablation_claims(variants) if part in claim["claim"]]
    return found


def test_the_variants_are_those_that_can_be_trained():
    assert set(AblationPlan().variants) == set(ABLATIONS) and len(AblationPlan().probe_seeds) >= 3


def test_rows_pair_seeds_and_identities():
    variants = records({"full": [0.5, 0.6], "no_dino": [0.4, 0.55], "no_probe": [0.0, 0.1]})
    predicted, refined = variant_rows("no_dino", variants)
    assert (predicted["steps"], refined["steps"]) == (0, 5)
    assert refined["identity_seeds"] == pytest.approx([0.5535, 0.5635, 0.5735], abs=1e-4)
    assert refined["minus_full"]["identity"]["seeds"] == pytest.approx([-0.05] * 3, abs=1e-4)
    assert refined["minus_full"]["identity"]["mean"] == pytest.approx(-0.05, abs=1e-4)
    assert "minus_full" not in variant_rows("full", variants)[0]
    (_, no_probe) = variant_rows("no_probe", variants)
    assert len(no_probe["minus_full"]["identity"]["seeds"]) == 3


def test_a_claim_needs_every_probe_seed():
    variants = records({"full": [0.5, 0.6], "no_dino": [0.4, 0.55], "no_clip": [0.5, 0.65]})
    assert outcome(variants, "DINO raises") == "holds" and outcome(variants, "CLIP raises CLIP-T") == "does not hold"
    assert outcome(variants, "mask regularisation raises") == "not measured"
    for name in ("dino_i", "clip_i", "clip_t"):  # one seed of three turns, the mean stays clear
        variants["no_dino"][1]["after"]["5"][name] = [value + 0.06 for value in variants["no_dino"][1]["after"]["5"][name]]
    assert outcome(variants, "DINO raises") == "does not hold"


def test_a_small_run_is_measured_once_and_resumed(tmp_path, miniature):
    trained = []

    def trainer(world, name, seed, folder):
        trained.append((name, seed))
        return world

    plan = AblationPlan().quick
    first = run_ablations(plan, trainer, tmp_path, tmp_path / "a.json")
    assert sorted(trained) == [("full", 0), ("full", 1), ("no_mask", 0), ("no_mask", 1)]
    second = run_ablations(plan, trainer, tmp_path, tmp_path / "b.json")
    assert len(trained) == 4 and first == second == json.loads((tmp_path / "b.json").read_text())
    rows = {(row["variant"], row["steps"]): row for row in first["rows"]}
    assert set(rows) == {(name, steps) for name in ("full", "no_mask", "no_probe") for steps in (0, 5)}
    assert rows["no_mask", 5]["minus_full"]["identity"]["mean"] == 0, "the trainer made equal probes"
    assert rows["full", 0]["identity"] > rows["no_probe", 0]["identity"]


def test_methods_do_not_go_with_ablations(tmp_path, capsys):
    assert main(["--ablations", "--methods", "dreambooth", "--work", str(tmp_path)]) == 2
    assert "know no methods" in capsys.readouterr().err
