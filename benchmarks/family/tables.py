"""The family's results and the ablations as Markdown tables."""

from __future__ import annotations

from ..provenance import made_by
from .plan import HEADLINE


def family_tables(result: dict) -> str:
    """Everything of `family.json` that a reader may ask for: all rows, the requirements, the paper's claims, the search."""
    choices = [
        f"| {method} | {regime} | {choice['rate']:g} | {choice['chosen_at_steps']} | {'yes' if choice['at_edge'] else ''} |"
        for method, regimes in result["choices"].items()
        for regime, choice in regimes.items()
    ]
    cost, plan = result["cost"], result["plan"]
    lines = [
        f"{made_by(result)} {plan['identities']} test creatures x {plan['prompts']} scenes x {len(plan['seeds'])} sampling seeds, the same "
        f"noise for all; each method's learning rate chosen out of {plan['settings']} on {plan['tune_identities']} other creatures.",
        *([] if "note" not in result else ["", result["note"]]),
        "",
        "| method | steps | identity (95 % interval) | minus HybridBooth@10 | prompt | class | DINO-I | CLIP-I | CLIP-T | leakage "
        "| diversity | seconds | GFLOP | memory | stored |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_family_row(row) for row in result["rows"]),
        "",
        f"Operations: {cost['operations']}. Seconds: {cost['seconds']}. Memory: {cost['memory']}. "
        f"Class images: {cost['class_images_note']} ({1000 * cost['class_images_tflop']:.0f} GFLOP).",
        "",
        *_requirements(result["verdicts"]),
        *_claims(result["claims"]),
        "Chosen learning rates (of methods that refine: step sizes):",
        "",
        "| method | for | rate | chosen at steps | at the edge of its grid |",
        "|---|---|---|---|---|",
        *choices,
    ]
    return "\n".join(lines).rstrip()


def _family_row(row: dict) -> str:
    bold = "**" if (row["method"], row["steps"]) == HEADLINE else ""
    low, high = row["identity_ci95"]
    minus = row.get("minus_headline")
    cells = [
        f"{bold}{row['title']}{bold}",
        str(row["steps"]),
        f"{row['identity']:.2f} ({low:.2f} to {high:.2f})",
        difference_text(minus["identity"]) if minus else "",
        f"{row['prompt']:.3f}",
        f"{row['kind']:.3f}",
        *(f"{row[name]:.2f}" for name in ("dino_i", "clip_i", "clip_t", "leakage", "diversity")),
        "" if row["seconds"] is None else f"{row['seconds']:.2f}",
        f"{1000 * row['tflop']:.0f}",
        "" if row["peak_memory_bytes"] is None else size_text(row["peak_memory_bytes"]),
        size_text(row["stored_bytes"]),
    ]
    return f"| {' | '.join(cells)} |"


def difference_text(difference: dict, digits: int = 3) -> str:
    """A paired difference with its interval: +0.008 (+0.004 to +0.013)."""
    low, high = difference["ci95"]
    return f"{difference['mean']:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def size_text(count: int) -> str:
    """Bytes for a reader: 0, 2.6 kB, 17.0 MB."""
    if count < 1000:
        return str(count)
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def _requirements(verdicts: list[dict]) -> list[str]:
    if not verdicts:
        return []
    return ["| required of HybridBooth@10 | measured | |", "|---|---|---|", *(_requirement(verdict) for verdict in verdicts), ""]


def _requirement(verdict: dict) -> str:
    if "mean" in verdict:
        measured = f"{difference_text(verdict)} against {verdict['against']}"
    elif "ratio" in verdict:
        measured = f"{verdict['ratio']:.1f}x against {verdict['against']}"
    else:
        measured = f"{verdict['value']:g}"
    return f"| {verdict['requirement']} | {measured} | {'met' if verdict['met'] else '**missed**'} |"


def _claims(claims: list[dict]) -> list[str]:
    """Sentences by outcome, those that do not hold first."""
    lines = []
    for outcome, title in (("does not hold", "that do not hold here"), ("holds", "that hold here"), ("not measured", "not measured here")):
        some = [claim for claim in claims if claim["outcome"] == outcome]
        if some:
            lines.append(f"The paper's claims {title}: " + "; ".join(_claim(claim) for claim in some) + ".")
            lines.append("")
    return lines


def _claim(claim: dict) -> str:
    numbers = ", ".join(f"{name.replace('_', '-')} {difference['mean']:+.3f}" for name, difference in claim["differences"].items())
    return claim["claim"] + (f" ({numbers})" if numbers else "")


def ablation_tables(result: dict) -> str:
    """Everything of `ablations.json`: every variant as predicted and as refined, and the paper's claims."""
    lines = [
        f"{made_by(result)} Each probe was trained from scratch for this table: {result['training']}, {len(result['probe_seeds'])} seeds; "
        f"{result['n_identities']} test creatures x {result['n_prompts']} scenes. *Seeds* is the range of the seeds' means.",
        "",
        "| variant | steps | identity (95 % interval) | seeds | minus all parts | prompt | DINO-I | CLIP-I | CLIP-T | leakage |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_ablation_row(row) for row in result["rows"]),
        "",
        *_claims(result["claims"]),
    ]
    return "\n".join(lines).rstrip()


def _ablation_row(row: dict) -> str:
    low, high = row["identity_ci95"]
    seeds = row["identity_seeds"]
    cells = [
        row["title"],
        str(row["steps"]),
        f"{row['identity']:.2f} ({low:.2f} to {high:.2f})",
        f"{min(seeds):.2f} to {max(seeds):.2f}" if len(seeds) > 1 else "",
        difference_text(row["minus_full"]["identity"]) if "minus_full" in row else "",
        f"{row['prompt']:.3f}",
        *(f"{row[name]:.2f}" for name in ("dino_i", "clip_i", "clip_t", "leakage")),
    ]
    return f"| {' | '.join(cells)} |"
