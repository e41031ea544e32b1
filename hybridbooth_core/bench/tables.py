"""The README's tables of the bench, as Markdown."""

from __future__ import annotations

BOLD = ("hybridbooth", 5)


def family_table(result: dict) -> str:
    """The table of `family.json`: the rows a reader needs, then which requirements are met, then the claims."""
    plan = result["plan"]
    lines = [
        f"{plan['identities']} test creatures x {plan['prompts']} scenes x {len(plan['seeds'])} sampling seeds, the same noise for all; "
        f"each method's learning rate chosen out of {plan['settings']} on {plan['tune_identities']} other creatures:",
        "",
        "| method | steps | identity (95 % interval) | minus HybridBooth@5 | prompt | DINO-I | CLIP-I | CLIP-T | leakage | diversity "
        "| seconds | TFLOP | stored |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_family_row(row) for row in result["rows"]),
        "",
        *_requirements(result["verdicts"]),
        *_claims(result["claims"]),
    ]
    return "\n".join(lines).rstrip()


def _family_row(row: dict) -> str:
    bold = "**" if (row["method"], row["steps"]) == BOLD else ""
    low, high = row["identity_ci95"]
    minus = row.get("minus_headline")
    cells = [
        f"{bold}{row['title']}{bold}",
        str(row["steps"]),
        f"{row['identity']:.2f} ({low:.2f} to {high:.2f})",
        _difference(minus["identity"]) if minus else "",
        f"{row['prompt']:.3f}",
        *(f"{row[name]:.2f}" for name in ("dino_i", "clip_i", "clip_t", "leakage", "diversity")),
        f"{row['seconds']:.2f}",
        f"{row['tflop']:.3f}",
        size_text(row["stored_bytes"]),
    ]
    return f"| {' | '.join(cells)} |"


def _difference(difference: dict) -> str:
    low, high = difference["ci95"]
    return f"{difference['mean']:+.3f} ({low:+.3f} to {high:+.3f})"


def size_text(count: int) -> str:
    """Bytes for a reader: 0, 2.6 kB, 17.0 MB."""
    if count < 1000:
        return str(count)
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def _requirements(verdicts: list[dict]) -> list[str]:
    if not verdicts:
        return []
    return ["| required of HybridBooth@5 | measured | |", "|---|---|---|", *(_requirement(verdict) for verdict in verdicts), ""]


def _requirement(verdict: dict) -> str:
    if "mean" in verdict:
        measured = f"{_difference(verdict)} against {verdict['against']}"
    elif "ratio" in verdict:
        measured = f"{verdict['ratio']:.1f}x against {verdict['against']}"
    else:
        measured = f"{verdict['value']:g}"
    return f"| {verdict['requirement']} | {measured} | {'met' if verdict['met'] else '**missed**'} |"


def _claims(claims: list[dict]) -> list[str]:
    """Sentences by outcome, those that do not hold first."""
    lines = []
    for outcome in ("does not hold", "holds", "not measured"):
        some = [claim for claim in claims if claim["outcome"] == outcome]
        if some:
            lines.append(f"The paper's claims, *{outcome}* here: " + "; ".join(_claim(claim) for claim in some) + ".")
            lines.append("")
    return lines


def _claim(claim: dict) -> str:
    numbers = ", ".join(f"{name.replace('_', '-')} {difference['mean']:+.3f}" for name, difference in claim["differences"].items())
    return claim["claim"] + (f" ({numbers})" if numbers else "")


def ablation_table(result: dict) -> str:
    """The table of `ablations.json`: every variant as guessed and as refined, the grid of constants, the claims."""
    lines = [
        f"Probes of {result['training']}, {len(result['probe_seeds'])} seeds each; {result['n_identities']} test creatures x "
        f"{result['n_prompts']} scenes; the spread is that of the seeds' means:",
        "",
        "| variant | steps | identity (95 % interval) | seeds | minus all parts | prompt | DINO-I | CLIP-I | CLIP-T | leakage |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_ablation_row(row) for row in result["rows"]),
        "",
        "| lambda | lr | lambda x lr | the words moved by | identity | prompt |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row['lambda']:g} | {row['lr']:g} | {row['product']:g} | {row['moved']:.1e} | {row['identity']:.3f} | {row['prompt']:.3f} |"
            for row in result["grid"]
        ),
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
        _difference(row["minus_full"]["identity"]) if "minus_full" in row else "",
        f"{row['prompt']:.3f}",
        *(f"{row[name]:.2f}" for name in ("dino_i", "clip_i", "clip_t", "leakage")),
    ]
    return f"| {' | '.join(cells)} |"
