"""What a refinement and what a training step cost at Stable Diffusion 1.5's size, as Markdown tables."""

from __future__ import annotations

from .rows import ONLY_ON_GPU, ROWS

NAMES = {
    "hybridbooth_residual": "HybridBooth, K, Q, V of the probe (the paper's form)",
    "hybridbooth_words": "**HybridBooth**, token embeddings (the default)",
    "textual_inversion": "Textual Inversion, 3000 steps of 4 rows",
    "dreambooth": "DreamBooth, 800 steps of 1 + 1 rows",
    "dreambooth_lora": "DreamBooth, LoRA, 500 steps of 1 + 1 rows",
    "custom_diffusion": "Custom Diffusion, 250 steps of 2 + 2 rows",
}


def refinement_tables(result: dict) -> str:
    """Everything of refine_sd15.json: what each step costs, what a subject costs, and the project's aims."""
    lines = [
        f"{_made_by(result)} Random weights at the true layout, 512 px, one row a step ({_where(result['machine'])}); medians, and the "
        "range in brackets:",
        "",
        "| | time against the bare pass | TFLOP | floor fraction | peak memory |",
        "|---|---|---|---|---|",
        *(_row(row) for row in result["rows"].values()),
        "",
        f"The bare pass took {_seconds(result['rows'])}. *Against the bare pass*: each step is followed by a bare pass in one process. "
        f"*Floor fraction*: the share of the time in which torch's own product of large matrices does as many operations"
        f"{_rates(result['rows'])}. Operations are counted, a multiply-add as two. Memory is the whole process's."
        f"{_missing(result['rows'])}",
        "",
        *_subjects(result["subjects"]),
        "| aim | measured | at least | aim | |",
        "|---|---|---|---|---|",
        *(_verdict(verdict) for verdict in result["verdicts"]),
    ]
    return "\n".join(lines)


def training_table(result: dict) -> str:
    """The operations, memory and data rates of train_probe.json."""
    lines = [
        f"{_made_by(result)} Random weights, one row a step unless said otherwise ({_where(result['machine'])}):",
        "",
        "| | TFLOP | peak memory, measured | estimated | waiting for data |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"].values():
        if "peak_memory_gb" in row:
            memory = row["peak_memory_gb"]
            measured = memory.get("process", memory.get("device"))
            used = "" if measured is None else f"{measured:.1f} GB"
            lines.append(f"| {row['title']} | {row['tflop']:.2f} | {used} | {memory['estimate']:.1f} GB | {row['waiting_for_data']:.2%} |")
    notes = [
        f"{row['title']}: {row['samples_per_second']['median']:.0f} samples/s"
        for row in result["rows"].values()
        if "samples_per_second" in row
    ]
    scaling = result["rows"].get("scaling", {})
    if "speedup" in scaling:
        notes.append(f"{scaling['title']}: {scaling['speedup']:.2f} times as fast, losses differ by {scaling['losses_differ_by']:.0e}")
    notes += [f"left out: {row['title']} ({row['left_out']})" for row in result["rows"].values() if "left_out" in row]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def _made_by(result: dict) -> str:
    commits = sorted({row["commit"] for row in result["rows"].values() if "commit" in row})
    return f"Made by `{result['command']}` at commit {', '.join(f'`{commit}`' for commit in commits)}."


def _where(machine: dict) -> str:
    threads = machine.get("threads")
    count = "" if threads is None else ", 1 thread" if threads == 1 else f", {threads} threads"
    return f"{machine['processor']}{count}, {machine['dtype']}, torch {machine['versions']['torch']}"


def _row(row: dict) -> str:
    if "left_out" in row:
        return f"| {row['title']} | left out: {row['left_out']} | | | |"
    memory = row.get("peak_memory_gb", {})
    used = f"{memory.get('process', memory.get('device')):.1f} GB" if memory else ""
    pixels = f", {row['pixels']} px" if "pixels" in row else ""
    ratio = f"{row['ratio_to_bare']:.2f}x"
    if "ratio_range" in row:
        low, high = row["ratio_range"]
        ratio += f" ({low:.2f} to {high:.2f})"
    return f"| {row['title']}{pixels} | {ratio} | {row['tflop']:.2f} | {row['floor_fraction']:.2f} | {used} |"


def _seconds(rows: dict) -> str:
    found = rows["bare_diffusers"]["seconds"]
    return f"{found['median']:.1f} s of processor time ({found['min']:.1f} to {found['max']:.1f})"


def _rates(rows: dict) -> str:
    return f" ({rows['bare_diffusers']['product_gflops']['mm']['median']:.0f} GFLOP/s in the bare pass's run)"


def _subjects(subjects: dict) -> list[str]:
    there = [name for name in NAMES if name in subjects]
    if not there:
        return []
    lines = ["| a subject by | bare passes | times the first | with one row (and one of its class) a step |", "|---|---|---|---|"]
    for name in there:
        passes, single, first = subjects[name]["passes"], subjects[name].get("passes_single_rows"), subjects[there[0]]["passes"]
        apart = f"{single / first:.1f}" if single else ""
        lines.append(f"| {NAMES[name]} | {passes:.0f} | {passes / first:.1f} | {apart} |")
    return [*lines, ""]


def _missing(rows: dict) -> str:
    """A sentence on the rows that the command measures on any device and that are not in the file."""
    names = [name for name in ROWS if name not in rows and name not in ONLY_ON_GPU]
    return f" Not measured yet: {', '.join(names)} (the same command continues with them)." if names else ""


def _verdict(verdict: dict) -> str:
    unit = verdict["unit"] if verdict["unit"] in ("", "x") else f" {verdict['unit']}"
    outcome = "aim met" if verdict["aim_met"] else "met" if verdict["met"] else "**missed**"
    return f"| {verdict['what']} | {verdict['value']:.3g}{unit} | {verdict['least']:g}{unit} | {verdict['aim']:g}{unit} | {outcome} |"
