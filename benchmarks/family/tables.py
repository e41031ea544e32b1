"""The bench as Markdown: a short table for the README, and everything for the pages of `docs/`."""

from __future__ import annotations

BOLD = ("hybridbooth", 5)


SHORT = (0, 5, 25)  # the step counts that the README shows, beside each method's best


def family_table(result: dict) -> str:
    """The README's table: every method at a few steps and at those that brought it the highest identity."""
    best = {}
    for row in result["rows"]:
        if row["identity"] >= best.get(row["method"], row)["identity"]:
            best[row["method"]] = row
    lines = [
        f"{_setting(result)}:",
        "",
        "| method | steps | identity (95 % interval) | minus HybridBooth@5 | prompt | DINO-I | CLIP-T | seconds | GFLOP | stored |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_short_row(row) for row in result["rows"] if row["steps"] in SHORT or row is best[row["method"]]),
    ]
    return "\n".join(lines)


def family_page(result: dict) -> str:
    """Everything of `family.json` that a reader may ask for: all rows, the requirements, the paper's claims, the search."""
    choices = [
        f"| {method} | {regime} | {choice['rate']:g} | {choice['chosen_at_steps']} | {'yes' if choice['at_edge'] else ''} |"
        for method, regimes in result["choices"].items()
        for regime, choice in regimes.items()
    ]
    cost = result["cost"]
    lines = [
        "# The family, measured",
        "",
        f"Written by `python benchmarks/readme.py` from `benchmarks/results/family.json`, which `{result['command']}` made. "
        f"{_setting(result)}.",
        "",
        "![identity against prompt accuracy](family.png)",
        "",
        "| method | steps | identity (95 % interval) | minus HybridBooth@5 | prompt | class | DINO-I | CLIP-I | CLIP-T | leakage "
        "| diversity | seconds | GFLOP | memory | stored |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_family_row(row) for row in result["rows"]),
        "",
        f"Operations: {cost['operations']}. Seconds: {cost['seconds']}. Memory: {cost['memory']}. "
        f"Class images: {cost['class_pictures_note']} ({1000 * cost['class_pictures_tflop']:.0f} GFLOP).",
        "",
        *_requirements(result["verdicts"]),
        *_claims(result["claims"]),
        "## Chosen learning rates",
        "| method | for | rate | chosen at steps | at the edge of its grid |",
        "|---|---|---|---|---|",
        *choices,
    ]
    return "\n".join(lines).rstrip() + "\n"


def _setting(result: dict) -> str:
    plan = result["plan"]
    return (
        f"{plan['identities']} test creatures x {plan['prompts']} scenes x {len(plan['seeds'])} sampling seeds, the same noise for all; "
        f"each method's learning rate chosen out of {plan['settings']} on {plan['tune_identities']} other creatures"
    )


def _short_row(row: dict) -> str:
    return _row(row, f"{row['prompt']:.3f}", *(f"{row[name]:.2f}" for name in ("dino_i", "clip_t")), *_costs(row))


def _family_row(row: dict) -> str:
    scores = [f"{row[name]:.2f}" for name in ("dino_i", "clip_i", "clip_t", "leakage", "diversity")]
    seconds, operations, stored = _costs(row)
    memory = "" if row["peak_memory_bytes"] is None else size_text(row["peak_memory_bytes"])
    return _row(row, f"{row['prompt']:.3f}", f"{row['kind']:.3f}", *scores, seconds, operations, memory, stored)


def _costs(row: dict) -> tuple[str, str, str]:
    return f"{row['seconds']:.2f}", f"{1000 * row['tflop']:.0f}", size_text(row["stored_bytes"])


def _row(row: dict, *cells: str) -> str:
    bold = "**" if (row["method"], row["steps"]) == BOLD else ""
    low, high = row["identity_ci95"]
    minus = row.get("minus_headline")
    first = [f"{bold}{row['title']}{bold}", str(row["steps"]), f"{row['identity']:.2f} ({low:.2f} to {high:.2f})"]
    return f"| {' | '.join([*first, _difference(minus['identity']) if minus else '', *cells])} |"


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
    """The README's table: every variant after five steps."""
    lines = [
        f"{_ablation_setting(result)}:",
        "",
        "| variant | identity, guessed | identity, 5 steps (95 % interval) | minus all parts | prompt | DINO-I | CLIP-T |",
        "|---|---|---|---|---|---|---|",
    ]
    guessed = {row["variant"]: row for row in result["rows"] if row["steps"] == 0}
    for row in result["rows"]:
        if row["steps"]:
            low, high = row["identity_ci95"]
            minus = _difference(row["minus_full"]["identity"]) if "minus_full" in row else ""
            cells = [row["title"], f"{guessed[row['variant']]['identity']:.2f}", f"{row['identity']:.2f} ({low:.2f} to {high:.2f})", minus]
            lines.append(f"| {' | '.join([*cells, *(f'{row[name]:.2f}' for name in ('prompt', 'dino_i', 'clip_t'))])} |")
    return "\n".join(lines)


def _ablation_setting(result: dict) -> str:
    return (
        f"Probes of {result['training']} (the one that was shipped then, a promptnet, had 5000 of 24), {len(result['probe_seeds'])} seeds "
        f"each, refined in the paper's form; {result['n_identities']} test creatures x {result['n_prompts']} scenes"
    )


def ablation_page(result: dict) -> str:
    """Everything of `ablations.json`: every variant as guessed and as refined, the grid of constants, the claims."""
    lines = [
        "# What each part is worth",
        "",
        f"Written by `python benchmarks/readme.py` from `benchmarks/results/ablations.json`, which `{result['command']}` made. "
        f"{_ablation_setting(result)}; the spread is that of the seeds' means.",
        "",
        "| variant | steps | identity (95 % interval) | seeds | minus all parts | prompt | DINO-I | CLIP-I | CLIP-T | leakage |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_ablation_row(row) for row in result["rows"]),
        "",
        "The paper's two constants, five steps from the shipped probe on tune creatures:",
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
    return "\n".join(lines).rstrip() + "\n"


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
