"""Writes everything that is made of the committed results: `python benchmarks/readme.py`.

That is the README's tables, docs/family.md with docs/family.png, and docs/ablations.md.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from hybridbooth_core.bench.plot import pareto_picture
from hybridbooth_core.bench.tables import ablation_page, ablation_table, family_page, family_table

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


def results(name: str) -> dict | None:
    """benchmarks/results/<name>.json; None as long as there is no such file."""
    path = ROOT / f"benchmarks/results/{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


TABLES = {"family": family_table, "ablations": ablation_table}
PAGES = {"family": family_page, "ablations": ablation_page}


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
        pareto_picture(family, ROOT / "docs/family.png")


if __name__ == "__main__":
    main()
