"""Writes the tables of README.md and docs/ from the committed results: `python -m benchmarks.tables`.

A page names a table by a pair of comments, `<!-- NAME -->` and `<!-- /NAME -->`; what is between them is written here, the rest of the
page by hand. docs/family.png and docs/strength.png are drawn too (extra `bench`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from .family.plan import HEADLINE
from .family.plot import pareto_image
from .family.tables import ablation_tables, difference_text, family_tables
from .outside.tables import drawn_table, groups_table, language_table, outside_table
from .provenance import RESULTS, ROOT, made_by
from .sd15.tables import refinement_tables, training_table
from .strength_plot import strength_image, strength_table

PAGES = ("README.md", "docs/relatives.md", "docs/results.md", "docs/family.md", "docs/ablations.md", "docs/sd15.md", "docs/own_probe.md")
MAIN_JOB = {
    "class_noun": "class noun alone",
    "no_probe": "no probe: class noun + 10 steps",
    "probe": "probe alone",
    "refined": "**probe + 10 steps** (the default)",
    "refined_residual": "probe + 5 steps on its cross-attentions (residual, the paper's form)",
}
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
    "probe_refined": "trained probe + 10 steps",
}


def _interval(value: float, interval: list[float]) -> str:
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


SYSTEMS = (
    ("class_noun", 0), ("encoder_only", 0), ("hybridbooth", 10), ("instantbooth", 0), ("hypernetwork", 0), ("hyperdreambooth", 40),
    ("lidb", 100), ("textual_inversion_5", 100), ("custom_diffusion", 100), ("dreambooth_lora", 100), ("dreambooth", 300),
)  # fmt: skip
"""README's table: a method and its number of steps."""


def result_table(r: dict) -> str:
    """README's one table: every system once, from family.json."""
    rows = {(row["method"], row["steps"]): row for row in r["rows"]}
    lines = ["| | steps | identity (95 % interval) | prompt | operations | file |", "|---|---|---|---|---|---|"]
    for key in SYSTEMS:
        row = rows[key]
        bold = "**" if key == HEADLINE else ""
        stored = f"{row['stored_bytes'] / 1000:.1f} kB" if row["stored_bytes"] else ""
        lines.append(
            f"| {bold}{row['title']}{bold} | {row['steps'] or ''} | {_interval(row['identity'], row['identity_ci95'])} "
            f"| {row['prompt']:.3f} | {1000 * row['tflop']:.0f} GFLOP | {stored} |"
        )
    return "\n".join(lines)


def main_job_table(r: dict) -> str:
    """Everything of main_job.json."""

    def row(name: str) -> str:
        identity = _interval(r[f"identity_{name}"], r[f"identity_{name}_ci95"])
        return f"| {MAIN_JOB[name]} | {identity} | {r[f'prompt_{name}']:.3f} | {r[f'class_{name}']:.3f} |"

    def gain(name: str) -> str:
        return difference_text({"mean": r[f"{name}_mean"], "ci95": r[f"{name}_ci95"]})

    return "\n".join(
        [
            f"{made_by(r)} {r['n_identities']} test creatures x {r['n_prompts']} scenes x {r['sampling_seeds']} sampling seeds, "
            "the same noise for all:",
            "",
            "| | identity (95 % interval) | prompt | class |",
            "|---|---|---|---|",
            *(row(name) for name in MAIN_JOB),
            "",
            f"What the default adds to the probe's identity, paired by creature: {gain('gain')} ({r['gain_identities']} creatures); five "
            f"steps in the paper's form {gain('gain_residual')} ({r['n_identities']} creatures).",
            "",
            f"The paper's printed constants (lr 2e-5, lambda 1e-2) move the embeddings by {r['displacement_literal']:.1e} of their norm in "
            f"five steps, the default moves them by {r['displacement_default']:.2f}.",
        ]
    )


def probe_free_table(result: dict) -> str:
    """The measurement of probe_free.json on test creatures."""
    r = result["measured"]

    def row(name: str) -> str:
        values = r["rows"][name]
        identity = _interval(values["identity"], values["identity_ci95"])
        return f"| {PROBE_FREE[name]} | {identity} | {values['prompt']:.3f} | {values['kind']:.3f} |"

    def gap(better: str, worse: str) -> str:
        return difference_text(r["gaps"][f"{better} - {worse}"]["identity"], 2)

    return "\n".join(
        [
            f"{made_by(r)} {r['test_creatures']} test creatures x {r['scenes']} scenes, the same noise for all:",
            "",
            "| | identity (95 % interval) | prompt | class |",
            "|---|---|---|---|",
            *(row(name) for name in PROBE_FREE if name in r["rows"]),
            "",
            f"Paired by creature, the probe-free start with 30 steps is {gap('probe_free', 'class_noun')} above the class noun, "
            f"{gap('probe_free', 'class_noun_30')} above the class noun with as many steps. CLIP found the noun of "
            f"{r['noun_found']:.0%} of the creatures among {r['nouns_in_the_list']} nouns.",
        ]
    )


def constants_table(r: dict) -> str:
    """The grid of constants.json."""
    rows = (
        f"| {row['lambda']:g} | {row['lr']:g} | {row['product']:g} | {row['moved']:.1e} | {row['identity']:.3f} | {row['prompt']:.3f} |"
        for row in r["rows"]
    )
    return "\n".join(
        [
            f"{made_by(r)} {r['tune_creatures']} tune creatures x {r['scenes']} scenes:",
            "",
            "| lambda | lr | lambda x lr | embeddings moved by | identity | prompt |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def quickstart_table(r: dict) -> str:
    """The ratios of quickstart_time.json."""
    rows = (f"| {name} | {row['median']:.2f} ({row['range'][0]:.2f} to {row['range'][1]:.2f}) |" for name, row in r["ratios"].items())
    header = f"{made_by(r)} {r['rounds']} rounds in turns; median and range of the ratio to version 0.1's single nodes:"
    return "\n".join([header, "", "| in 0.2 | time |", "|---|---|", *rows])


def relatives_table(r: dict) -> str:
    """The arms of relatives.json."""
    size = f"{r['identities']} test creatures x {r['scenes']} scenes x {r['sampling_seeds']} sampling seeds"
    header = f"{made_by(r)} {size}, the same noise for all:"
    lines = [header, "", "| | identity (95 % interval) | prompt | identity against | prompt against |", "|---|---|---|---|---|"]
    for row in r["rows"]:
        against = ("", "")
        if "against" in row:
            against = tuple(f"{difference_text(row[f'{name}_difference'])} ({row['against']})" for name in ("identity", "prompt"))
        lines.append(
            f"| {row['arm']} | {_interval(row['identity'], row['identity_ci95'])} | {row['prompt']:.3f} | {against[0]} | {against[1]} |"
        )
    return "\n".join(lines)


BLOCKS: dict[str, tuple[str, Callable[[dict], str]]] = {
    "result": ("family", result_table),
    "main_job": ("main_job", main_job_table),
    "probe_free": ("probe_free", probe_free_table),
    "constants": ("constants", constants_table),
    "relatives": ("relatives", relatives_table),
    "family": ("family", family_tables),
    "ablations": ("ablations", ablation_tables),
    "refine_sd15": ("refine_sd15", refinement_tables),
    "train_probe": ("train_probe", training_table),
    "quickstart_time": ("quickstart_time", quickstart_table),
    "outside": ("outside", outside_table),
    "groups": ("outside", groups_table),
    "drawn": ("outside", drawn_table),
    "language": ("outside", language_table),
    "strength": ("strength", lambda result: f"{made_by(result)} Identity / prompt / class:\n\n{strength_table(result)}"),
}
"""By the name that a page uses: the file in benchmarks/results, and what makes the table of it."""


def results(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


def filled(text: str) -> str:
    """A page with every table that it names."""

    def block(match: re.Match[str]) -> str:
        file, table = BLOCKS[match[1]]
        there = (RESULTS / f"{file}.json").exists()
        text = table(results(file)) if there else f"*Not measured with this version yet: run `python -m benchmarks.{file}`.*"
        return f"<!-- {match[1]} -->\n{text}\n<!-- /{match[1]} -->"

    names = "|".join(BLOCKS)
    return re.sub(rf"<!-- ({names}) -->\n.*?<!-- /\1 -->", block, text, flags=re.DOTALL)


def main() -> None:
    for page in PAGES:
        path = ROOT / page
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
    pareto_image(results("family"), ROOT / "docs/family.png")
    strength_image(results("strength"), ROOT / "docs/strength.png")


if __name__ == "__main__":
    main()
