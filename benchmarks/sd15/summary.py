"""What the rows come to: a subject's cost in bare passes, and the project's aims beside what was measured."""

from __future__ import annotations

from typing import Any

from hybridbooth_core.refine.config import NEAR_STEPS
from hybridbooth_core.refine.refine import VALIDATE_EVERY, RefineConfig

Rows = dict[str, dict[str, Any]]

# Steps as published for Stable Diffusion, and rows of each: a step was measured with one row of the subject (and one of its class).
PUBLISHED = {"textual_inversion": (3000, 4), "dreambooth": (800, 1), "dreambooth_lora": (500, 1), "custom_diffusion": (250, 2)}


def ratio(rows: Rows, name: str) -> float | None:
    """A row's time in bare passes."""
    return rows.get(name, {}).get("ratio_to_bare")


def subjects(rows: Rows) -> dict[str, dict[str, float]]:
    """The cost of one subject in bare passes, by every method there are rows for.

    `passes` takes the published steps with as many rows as published, `passes_single_rows` with a single row a step. HybridBooth's are
    its default steps of four rows (for a subject like those of the probe's training) and all validations that `refine` makes.
    """
    found: dict[str, dict[str, float]] = {}
    for name, (count, batch) in PUBLISHED.items():
        if (step := ratio(rows, name)) is not None:
            found[name] = {"passes": round(count * batch * step, 1), "passes_single_rows": round(count * step, 1)}
    plain, row = ratio(rows, "words"), _validation_row(rows)
    if plain is None or row is None:
        return found
    for mode in ("residual", "words"):
        if (step := ratio(rows, mode)) is not None:
            config = RefineConfig(mode=mode).resolved
            gradients = (config.steps or NEAR_STEPS) * (config.batch * plain + step - plain)
            found[f"hybridbooth_{mode}"] = {"passes": round(gradients + validations(mode) * row, 1), "validated_rows": validations(mode)}
    return found


def validations(mode: str) -> int:
    """Rows without gradients of one refinement by default: at the start, every few steps and at the end."""
    config = RefineConfig(mode=mode).resolved  # type: ignore[arg-type]
    return config.validation * (1 + (config.steps or NEAR_STEPS) // VALIDATE_EVERY)


def _validation_row(rows: Rows) -> float | None:
    whole = ratio(rows, "validation")
    return None if whole is None else whole / rows["validation"]["rows"]


def verdicts(rows: Rows, device: str, host: dict[str, float] | None = None) -> list[dict[str, Any]]:
    """The project's aims: `least` must be reached, `aim` is hoped for; `value` is what was measured."""
    found: list[dict[str, Any]] = []

    def add(what: str, value: float | None, least: float, aim: float, unit: str, more_is_better: bool = False) -> None:
        if value is not None:
            reached = [value >= bound if more_is_better else value <= bound for bound in (least, aim)]
            found.append({"what": what, "value": round(value, 3), "unit": unit, "least": least, "aim": aim, "met": reached[0],
                          "aim_met": reached[1]})  # fmt: skip

    if device == "cpu":
        add("step on the token embeddings against the bare pass", ratio(rows, "words"), 1.15, 1.03, "x")
        add("step on K, Q, V against the bare pass", ratio(rows, "residual"), 2.0, 1.6, "x")
        add("floor_fraction of a step on the token embeddings", rows.get("words", {}).get("floor_fraction"), 0.42, 0.55, "", True)
        for name, least, aim in (("words", 7, 5), ("residual", 10, 7)):
            memory = rows.get(name, {}).get("peak_memory_gb", {}).get("process")
            add(f"peak memory of a step on {'the token embeddings' if name == 'words' else 'K, Q, V'}", memory, least, aim, "GB")
        costs = subjects(rows)
        for name, title, least, aim in (("textual_inversion", "Textual Inversion", 50, 300), ("dreambooth", "DreamBooth", 50, 100),
                                        ("custom_diffusion", "Custom Diffusion", 20, 40)):  # fmt: skip
            for mode in ("words", "residual"):
                if name in costs and f"hybridbooth_{mode}" in costs:
                    times = costs[name]["passes"] / costs[f"hybridbooth_{mode}"]["passes"]  # of as many rows as published
                    add(f"a subject by {title} against HybridBooth, {mode}", times, least, aim, "x", True)
    else:
        add("10 steps of 4 rows", rows.get("subject", {}).get("seconds", {}).get("median"), 2.0, 0.6, "s")
        add("its peak memory", rows.get("subject", {}).get("peak_memory_gb", {}).get("device"), 6, 6, "GB")
        add("floor_fraction of a subject", rows.get("subject", {}).get("floor_fraction"), 0.4, 0.4, "", True)
    if host:
        add("time added to the host's start", host["import_and_register_seconds"], 0.3, 0.1, "s")
    return found
