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


GROUP_TITLES = {
    "inside": "inside: known in every respect",
    "kinds": "unseen kinds",
    "patterns": "unseen patterns",
    "tones": "unseen colours",
    "shapes": "unseen proportions",
    "photos": "bad photos",
    "all outside": "all outside",
}
ROW_TITLES = {
    "probe": "probe alone",
    "default": "**default**",
    "captioned": "default, the photo's scene said",
    "polished": "the same, polished (LoRA)",
    "words_25": "25 free steps",
    "paper_5": "the paper's form, 5 steps",
    "no_probe_30": "no probe, 30 steps",
    "textual_inversion_5": "Textual Inversion, 5 tokens, 100 steps (default rate)",
    "custom_diffusion": "Custom Diffusion, 50 steps (default rate)",
    "dreambooth_lora": "DreamBooth LoRA, 100 steps (default rate)",
}


def groups_table(result: dict) -> str:
    """The groups of `rows`: one table for everything outside, and the default beside its neighbours in every group."""
    rows = {(row["kind"], row["method"]): row for row in result["rows"]}
    lines = [f"{made_by(result)} {result['known']}", ""]
    for kind in ("inside", "kinds", "all outside"):
        lines += [
            f"**{GROUP_TITLES[kind]}**",
            "",
            "| | steps | identity | minus the probe alone | worse | prompt | GFLOP |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, title in ROW_TITLES.items():
            r = rows[kind, name]
            cost = "" if r["gflop"] is None else f"{r['gflop']:.0f}"
            lines.append(
                f"| {title} | {r['steps']:.0f} | {_with_interval(r['identity'], r['identity_ci95'])} | {_difference(r, name)} | "
                f"{100 * r['share_worse']:.0f} % | {r['prompt']:.2f} | {cost} |"
            )
        lines.append("")
    shown = ("probe", "default", "captioned", "polished", "no_probe_30")
    lines += ["| identity / prompt | " + " | ".join(ROW_TITLES[name].strip("*") for name in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for kind, title in GROUP_TITLES.items():
        cells = (f"{rows[kind, name]['identity']:.2f} / {rows[kind, name]['prompt']:.2f}" for name in shown)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _with_interval(value: float, bounds: list[float]) -> str:
    return f"{value:.2f} ({bounds[0]:.2f} to {bounds[1]:.2f})"


def _difference(row: dict, name: str) -> str:
    low, high = row["minus_probe_ci95"]
    return "" if name == "probe" else f"{row['minus_probe']:+.3f} ({low:+.3f} to {high:+.3f})"


def drawn_table(result: dict) -> str:
    """Probes trained on drawings beside those trained on true renders."""
    found = result["drawn"]
    masks = found["masks"]
    lines = [
        f"{made_by(result)} {result['creatures']} test creatures of every kind; the probes saw cats and rabbits only, 600 steps of 16. "
        f"Overlap (IoU) of masks by attention with exact ones: {_with_interval(masks['iou'], masks['iou_ci95'])}; "
        f"{100 * masks['below_half']:.0f} % lie below one half.",
        "",
        "| trained on | probes | | probe alone: identity / prompt | minus true renders | default: identity / prompt | minus true renders |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = {(row["trained_on"], row["kind"], row["method"]): row for row in found["rows"]}
    for trained_on, kind in dict.fromkeys((row["trained_on"], row["kind"]) for row in found["rows"]):
        cells = []
        for method in ("probe", "default"):
            r = rows[trained_on, kind, method]
            low, high = r["minus_true_ci95"]
            same = trained_on == "true renders"
            cells += [f"{r['identity']:.2f} / {r['prompt']:.2f}", "" if same else f"{r['minus_true']:+.3f} ({low:+.3f} to {high:+.3f})"]
        lines.append(f"| {trained_on} | {rows[trained_on, kind, 'probe']['seeds']} | {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def language_table(result: dict) -> str:
    """A start from language alone, by steps of the training after it."""
    lines = [
        f"{made_by(result)} Identity on 24 tune creatures, one probe each.",
        "",
        "| steps | from language | from nothing |",
        "|---|---|---|",
    ]
    lines += [f"| {row['steps']} | {row['identity']:.2f} | {row['identity_without']:.2f} |" for row in result["language"]]
    return "\n".join(lines)
