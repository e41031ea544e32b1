"""Writes everything that is made of the committed results: `python benchmarks/readme.py`.

That is the README's tables, docs/family.md with docs/family.png, docs/ablations.md and docs/sd15.md.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.family.plot import pareto_image
from benchmarks.family.tables import ablation_page, ablation_table, family_page, family_table
from benchmarks.sd15.tables import sd15_page

ROOT = Path(__file__).resolve().parent.parent


def main_job_table() -> str:
    """The table of benchmarks/results/main_job.json as Markdown."""
    r = json.loads((ROOT / "benchmarks/results/main_job.json").read_text())

    def row(title: str, name: str) -> str:
        low, high = r[f"identity_{name}_ci95"]
        identity, prompt, kind = r[f"identity_{name}"], r[f"prompt_{name}"], r[f"class_{name}"]
        return f"| {title} | {identity:.2f} ({low:.2f} to {high:.2f}) | {prompt:.3f} | {kind:.3f} |"

    def gain(name: str) -> str:
        low, high = r[f"{name}_ci95"]
        return f"{r[f'{name}_mean']:+.3f} ({low:+.3f} to {high:+.3f})"

    lines = [
        f"{r['n_identities']} test creatures x {r['n_prompts']} scenes x {r['sampling_seeds']} sampling seeds, the same noise for all:",
        "",
        "| | identity (95 % interval) | prompt | class |",
        "|---|---|---|---|",
        row("class noun alone", "class_noun"),
        row("no probe: class noun + 5 steps on the words", "no_probe"),
        row("probe alone", "probe"),
        row(f"**probe + 5 steps** ({r['mode']}, the default)", "refined"),
        row("probe + 5 steps on its cross-attentions (residual, the paper's form)", "refined_residual"),
        row("probe + 5 steps on the words", "refined_words"),
        "",
        f"What five steps add to the probe's identity, paired by creature: {gain('gain')} ({r['gain_identities']} creatures); in the "
        f"paper's form {gain('gain_residual')}, on the words {gain('gain_words')} ({r['n_identities']} creatures).",
        "",
        f"The paper's printed constants (lr 2e-5, lambda 1e-2) move the words by {r['displacement_literal']:.1e} of their length in five "
        f"steps, the default moves them by {r['displacement_default']:.2f}. The demo takes {r['demo_seconds']:.0f} s as a whole process "
        f"({r['machine']}); registering the nodes adds {r['import_and_register_seconds']:.2f} s to ComfyUI's start.",
    ]
    return "\n".join(lines)


PROBE_FREE = {
    "class_noun": "class noun alone",
    "class_noun_30": "class noun + 30 steps",
    "retrieved": "noun and attributes found by CLIP",
    "inversion": "CLIP-space inversion alone",
    "probe_free": "**probe-free start + 30 steps** (the default)",
    "probe_free_20": "the same with 20 steps",
    "probe_free_40": "the same with 40 steps",
    "probe_free_retrieved_noun": "the same, its noun found by CLIP",
    "probe": "trained probe alone",
    "probe_refined": "trained probe + 5 steps",
}


def probe_free_table(result: dict) -> str:
    """The table of benchmarks/results/probe_free.json as Markdown."""
    r = result["measured"]

    def row(name: str) -> str:
        values = r["rows"][name]
        low, high = values["identity_ci95"]
        identity = f"{values['identity']:.2f} ({low:.2f} to {high:.2f})"
        return f"| {PROBE_FREE[name]} | {identity} | {values['prompt']:.3f} | {values['kind']:.3f} |"

    def gap(better: str, worse: str) -> str:
        found = r["gaps"][f"{better} - {worse}"]["identity"]
        low, high = found["ci95"]
        return f"{found['mean']:+.2f} ({low:+.2f} to {high:+.2f})"

    return "\n".join(
        [
            f"{r['test_creatures']} test creatures x {r['scenes']} scenes, the same noise for all:",
            "",
            "| | identity (95 % interval) | prompt | class |",
            "|---|---|---|---|",
            *(row(name) for name in PROBE_FREE if name in r["rows"]),
            "",
            f"Paired by creature, the probe-free start with 30 steps is {gap('probe_free', 'class_noun')} above the class noun, "
            f"{gap('probe_free', 'class_noun_30')} above the class noun with as many steps, and the trained probe "
            f"{gap('probe', 'probe_free')} above it. CLIP found the noun of {r['noun_found']:.0%} of the creatures among "
            f"{r['nouns_in_the_list']} nouns.",
        ]
    )


def compare_table(result: dict) -> str:
    """The table of benchmarks/results/compare_probes.json as Markdown."""

    def cell(entry: dict, sign: str = "") -> str:
        low, high = entry["ci95"]
        return f"{entry['mean']:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"

    lines = ["| the image | identity, former probe | identity, this one | difference, paired | prompt |", "|---|---|---|---|---|"]
    for view, row in result["rows"].items():
        identity = row["identity"]
        cells = [cell(identity["other"]), cell(identity["shipped"]), cell(identity["difference"], "+")]
        lines.append(f"| {view} | {' | '.join(cells)} | {row['prompt']['shipped']['mean']:.3f} |")
    return "\n".join(lines)


def train_table(result: dict) -> str:
    """The table of benchmarks/results/train_probe.json as Markdown."""
    lines = [
        "| | seconds | TFLOP | floor_fraction | peak memory (forecast) | waiting for data | 640k samples |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"].values():
        if "seconds" not in row:
            continue
        memory = row["peak_memory_gb"]
        lines.append(
            f"| {row['title']} | {row['seconds']['median']:.1f} | {row['tflop']:.2f} | {row['floor_fraction']:.2f} | "
            f"{memory.get('process', memory.get('device'))} GB ({memory['forecast']} GB) | {row['waiting_for_data']:.2%} | "
            f"{row['hours_for_640k_samples']:.0f} h |"
        )
    told = [
        f"{row['title']}: {row['samples_per_second']['median']:.0f} samples/s"
        for row in result["rows"].values()
        if "samples_per_second" in row
    ]
    scaling = result["rows"].get("scaling", {})
    if "speedup" in scaling:
        told.append(f"{scaling['title']}: {scaling['speedup']:.2f} times as fast, losses alike to {scaling['losses_differ_by']:.0e}")
    told += [f"left out: {row['title']} ({row['left_out']})" for row in result["rows"].values() if "left_out" in row]
    verdicts = [
        f"{v['what']}: {v['value']:g} (at {'least' if v['higher'] else 'most'} {v['least']:g}, aim {v['aim']:g}): "
        + ("aim met" if v["aim_met"] else "met, aim missed" if v["least_met"] else "**missed**")
        for v in result["verdicts"]
    ]
    return "\n".join([*lines, "", *(f"- {line}" for line in [*told, *verdicts])])


FILES = {"sd15": "refine_sd15", "compare": "compare_probes", "train": "train_probe"}  # where the file has another name than the block


def results(name: str) -> dict | None:
    """benchmarks/results/<name>.json; None as long as there is no such file."""
    path = ROOT / f"benchmarks/results/{FILES.get(name, name)}.json"
    return json.loads(path.read_text()) if path.exists() else None


TABLES = {
    "family": family_table,
    "ablations": ablation_table,
    "probe_free": probe_free_table,
    "compare": compare_table,
    "train": train_table,
}
PAGES = {"family": family_page, "ablations": ablation_page, "sd15": sd15_page}


def filled(text: str) -> str:
    """The README with every marked block renewed that there are results for."""
    tables = {"main_job": main_job_table()} | {name: table(found) for name, table in TABLES.items() if (found := results(name))}
    for name, table in tables.items():
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, count=1, flags=re.DOTALL)
    return text


def pages() -> dict[Path, str]:
    """The pages of `docs/` that there are results for, by their path."""
    return {ROOT / f"docs/{name}.md": page(found) for name, page in PAGES.items() if (found := results(name))}


def main() -> None:
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text()))
    for page, text in pages().items():
        page.write_text(text)
    if family := results("family"):
        pareto_image(family, ROOT / "docs/family.png")


if __name__ == "__main__":
    main()
