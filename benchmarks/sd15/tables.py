"""What a refinement costs at Stable Diffusion 1.5's size (`benchmarks/refine_sd15.py`), as a page of docs/."""

from __future__ import annotations

NAMES = {
    "hybridbooth_learned": "**HybridBooth**, learned steps (the default where the probe has learnt some)",
    "hybridbooth_residual": "HybridBooth, K, Q, V of the probe (the paper's form)",
    "hybridbooth_words": "HybridBooth, words alone",
    "textual_inversion": "Textual Inversion, 3000 steps of 4 rows",
    "dreambooth": "DreamBooth, 800 steps of 1 + 1 rows",
    "dreambooth_lora": "DreamBooth, LoRA, 500 steps of 1 + 1 rows",
    "custom_diffusion": "Custom Diffusion, 250 steps of 2 + 2 rows",
}


def sd15_page(result: dict) -> str:
    """docs/sd15.md: what each step costs, what a subject costs, and the project's aims."""
    machine = result["machine"]
    where = f"{machine['processor']}, {machine['threads']} threads, {machine['dtype']}, torch {machine['versions']['torch']}"
    lines = [
        "# Stable Diffusion 1.5 at true size: what a refinement costs",
        "",
        "Written by `python benchmarks/readme.py` from `benchmarks/results/refine_sd15.json`, which `python benchmarks/refine_sd15.py` "
        "made.",
        "",
        f"Random weights at the true layout, 512 px, one row a step ({where}); medians, and the range in brackets:",
        "",
        "| | seconds | against the bare pass | TFLOP | floor fraction | peak memory | load |",
        "|---|---|---|---|---|---|---|",
        *(_row(row) for row in result["rows"].values()),
        "",
        "*Floor fraction* is the share of the time in which torch's own product of large matrices does as many operations"
        f"{_rates(result['rows'])}; above 1 the pack's products are the faster ones. Memory is the whole process's.",
        "*Against the bare pass*: in turns with a bare pass in the same process, not the quotient of two rows. *Load* is the system's load "
        "average before the row began; the row before it makes 2 of it.",
        "",
        "| a subject by | minutes | times the first | with one row (and one of its class) a step |",
        "|---|---|---|---|",
        *_subjects(result["subjects"]),
        "",
        "| aim | measured | at least | aim | |",
        "|---|---|---|---|---|",
        *(_verdict(verdict) for verdict in result["verdicts"]),
    ]
    return "\n".join(lines) + "\n"


def _row(row: dict) -> str:
    if "left_out" in row:
        return f"| {row['title']} | left out: {row['left_out']} | | | | | |"
    seconds = row["seconds"]
    memory = f"{row['peak_memory_gb']['process']:.1f} GB" if "peak_memory_gb" in row else ""
    per_subject = f", {row['seconds_per_subject']:.2f} a subject" if "seconds_per_subject" in row else ""
    ratio = f"{row['ratio_to_bare']:.2f}x" if "ratio_to_bare" in row else ""
    pixels = f", {row['pixels']} px" if "pixels" in row else ""
    took = f"{seconds['median']:.2f} ({seconds['min']:.2f} to {seconds['max']:.2f}){per_subject}"
    counted = f"{row['tflop']:.2f} | {row['floor_fraction']:.2f} | {memory} | {row.get('load_before', '')}"
    return f"| {row['title']}{pixels} | {took} | {ratio} | {counted} |"


def _rates(rows: dict) -> str:
    """The median rates of the yardstick's run."""
    rates = rows.get("bare", {}).get("product_gflops")
    if not rates:
        return ""
    return f" ({rates['mm']['median']:.0f} GFLOP/s; the fastest product at hand does {rates['fastest']['median']:.0f})"


def _subjects(subjects: dict) -> list[str]:
    there = [name for name in NAMES if name in subjects]
    lines = []
    for name in there:
        seconds, single, first = subjects[name]["seconds"], subjects[name].get("seconds_single_rows"), subjects[there[0]]["seconds"]
        apart = f"{single / first:.1f}" if single else ""
        lines.append(f"| {NAMES[name]} | {seconds / 60:.1f} | {seconds / first:.1f} | {apart} |")
    return lines


def _verdict(verdict: dict) -> str:
    unit = verdict["unit"] if verdict["unit"] in ("", "x") else f" {verdict['unit']}"
    outcome = "aim met" if verdict["aim_met"] else "met" if verdict["met"] else "**missed**"
    return f"| {verdict['what']} | {verdict['value']:.3g}{unit} | {verdict['least']:g}{unit} | {verdict['aim']:g}{unit} | {outcome} |"
