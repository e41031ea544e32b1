"""The table of outside.json for docs/results.md."""

from __future__ import annotations

from ..provenance import made_by

TITLES = {
    "class_noun": "class noun alone",
    "probe": "probe alone",
    "default": "**probe + 10 or 25 steps** (the default)",
    "anchored_10": "probe + 10 steps, tied",
    "anchored_25": "probe + 25 steps, tied",
    "words_5": "probe + 5 free steps",
    "words_10": "probe + 10 free steps",
    "words_25": "probe + 25 free steps",
    "paper_5": "probe + 5 steps on its cross-attentions (the paper's form)",
    "no_probe_30": "no probe: class noun + 30 steps",
}


def outside_table(result: dict) -> str:
    """Kind transfer, by regressor and by whether the kind was seen."""
    sentence = f"{made_by(result)} {len(result['splits'])} probes, {result['creatures']} test creatures of every kind, 4 scenes."
    lines = [sentence]
    for regressor, kind in dict.fromkeys((row["regressor"], row["kind"]) for row in result["transfer"]):
        lines += ["", f"**{regressor}, {kind}**", ""]
        lines += ["| | steps | identity | minus the probe alone | worse | prompt | class | GFLOP |", "|---|---|---|---|---|---|---|---|"]
        rows = {row["method"]: row for row in result["transfer"] if (row["regressor"], row["kind"]) == (regressor, kind)}
        for name, title in TITLES.items():
            r = rows[name]
            low, high = r["minus_probe_ci95"]
            difference = "" if name == "probe" else f"{r['minus_probe']:+.3f} ({low:+.3f} to {high:+.3f})"
            cost = "" if r["gflop"] is None else f"{r['gflop']:.0f}"
            lines.append(
                f"| {title} | {r['steps']:.0f} | {r['identity']:.2f} | {difference} | {100 * r['share_worse']:.0f} % | {r['prompt']:.2f} | "
                f"{r['novelty']:.2f} | {cost} |"
            )
    return "\n".join(lines)
