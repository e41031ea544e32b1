"""Requirements and claims are judged by the numbers."""

from __future__ import annotations

import pytest
import torch

from benchmarks.family.plan import ENTRIES, Plan
from benchmarks.family.rows import result_rows
from benchmarks.family.verdicts import RIVALS, best_key, claims, requirements


def judged(scores: dict, tflop: dict | None = None) -> dict[str, dict]:
    costs = {key: {"tflop": (tflop or {}).get(key, 1.0), "seconds": 1.0, "peak_memory_bytes": 1} for key in scores}
    choices = {name: {"few": {"rate": 1e-3}, "many": {"rate": 1e-4}} for name, entry in ENTRIES.items() if entry.rates}
    found = requirements(scores, result_rows(Plan(), scores, choices, costs))
    return {verdict["requirement"]: verdict for verdict in found}


def test_identity_is_compared_with_the_best_of_the_rivals_at_25_steps(scores):
    name = "identity above the best of the trained methods at 25 steps, interval clear of 0"
    assert judged(scores)[name]["met"]
    scores["dreambooth", 25]["identity"] = scores["hybridbooth", 10]["identity"] + torch.linspace(-0.101, 0.1, 16)
    verdict = judged(scores)[name]
    assert not verdict["met"] and verdict["against"] == "DreamBooth @ 25" and verdict["ci95"][0] < 0 < verdict["ci95"][1]


@pytest.mark.parametrize("method", RIVALS)
@pytest.mark.parametrize(("ahead", "met"), [(0.02, True), (0.04, False)])
def test_converged_is_the_step_count_with_the_highest_identity(method, ahead, met, scores):
    scores[method, 100]["identity"] = scores["hybridbooth", 10]["identity"] + ahead
    assert best_key(scores, method) == (method, 100)
    verdict = judged(scores)[f"identity no worse than -0.03 against {ENTRIES[method].title} converged"]
    assert verdict["met"] is met and verdict["mean"] == pytest.approx(-ahead, abs=1e-4) and verdict["against"].endswith("@ 100")


def test_prompts_bytes_and_operations_have_limits(scores):
    rival = best_key(scores, "dreambooth")
    operations = "10x fewer operations than DreamBooth converged (aim 40x)"
    found = judged(scores, {("hybridbooth", 10): 0.05, rival: 0.6})
    assert found[operations]["met"] and not found[operations]["aim_met"] and found[operations]["ratio"] == pytest.approx(12)
    assert found["prompt accuracy at least 0.95"]["met"] and found["at most 16000 bytes stored"]["met"]
    scores["hybridbooth", 10]["prompt"] = torch.full((16,), 0.94)
    scores["hybridbooth", 10]["stored_bytes"] = torch.full((16,), 16_001.0)
    found = judged(scores, {("hybridbooth", 10): 0.07, rival: 0.6})
    missed = (operations, "prompt accuracy at least 0.95", "at most 16000 bytes stored")
    assert not any(found[name]["met"] for name in missed)


def test_claims_hold_only_clear_of_zero(scores):
    def outcome(part: str) -> str:
        (found,) = [claim["outcome"] for claim in claims(scores) if part in claim["claim"]]
        return found

    assert outcome("refinement raises identity over the probe alone") == "holds"
    assert outcome("ELITE") == "not measured"
    assert outcome("25 bring no more identity") == "holds"
    scores["encoder_only", 0]["identity"] = scores["hybridbooth", 10]["identity"] + torch.linspace(-0.101, 0.1, 16)
    assert outcome("refinement raises identity over the probe alone") == "does not hold"
    scores["hybridbooth", 25]["identity"] = scores["hybridbooth", 5]["identity"] + 0.05
    assert outcome("25 bring no more identity") == "does not hold"
    del scores["encoder_only", 0]
    assert outcome("refinement raises identity over the probe alone") == "not measured"


def test_without_rivals_there_is_nothing_to_require(scores):
    assert requirements({key: value for key, value in scores.items() if key[0] == "hybridbooth"}, []) == []
