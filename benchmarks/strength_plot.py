"""The figure of strength.json: identity, class and prompt over a subject's strength, as it is and as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

NOW, BEFORE, FAINT = "#c8102e", "#8c8c8c", "#dddddd"
PANELS = (("probe_tune", "a probe's subjects"), ("noun_tune", "subjects without a probe"))
LINES = (("identity", "-", "identity"), ("class", "--", "class"))


def strength_image(result: dict[str, Any], path: Path) -> None:
    """Draw `strength.json` into a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (run, title) in enumerate(PANELS):
        axes: Any = figure.add_subplot(1, 2, number + 1)
        along, strengths = result[run]["along"], result["strengths"]
        for places, colour, which in ((strengths, BEFORE, "before"), (result["reach"], NOW, "now")):
            rows = [along[f"{place:.6g}"] for place in places]
            low, high = zip(*(row["identity_ci95"] for row in rows), strict=True)
            axes.fill_between(strengths, low, high, color=colour, alpha=0.15, linewidth=0)
            for field, style, label in LINES:
                values = [row[field] for row in rows]
                axes.plot(strengths, values, style, color=colour, marker="o", markersize=3, linewidth=1.8, label=f"{label}, {which}")
        axes.set(title=f"{title} ({result[run]['creatures']} tune creatures)", xlabel="strength", xlim=(0, 2), ylim=(-0.05, 1.05))
        axes.grid(color=FAINT, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("score")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.savefig(path, facecolor="white")


def strength_table(result: dict[str, Any]) -> str:
    """The rows of the figure, and those of the test creatures, in numbers."""

    def cell(run: str, place: float) -> str:
        row = result[run]["along"][f"{place:.6g}"]
        return f"{row['identity']:.2f} / {row['prompt']:.2f} / {row['class']:.2f}"

    runs = (("probe_tune", "a probe's subjects"), ("noun_tune", "without a probe"))
    tests = (("probe_test", "a probe's, test creatures"), ("noun_test", "without a probe, test creatures"))
    strengths = result["strengths"]
    lines = ["| strength | " + " | ".join(f"{strength:g}" for strength in strengths) + " |", "|---|" + "---|" * len(strengths)]
    for run, title in runs:
        lines.append(f"| {title}, before | " + " | ".join(cell(run, place) for place in strengths) + " |")
        lines.append(f"| {title}, **now** | " + " | ".join(cell(run, place) for place in result["reach"]) + " |")
    for run, title in tests:
        lines.append(f"| {title}, **now** | " + " | ".join(cell(run, place) for place in result["reach"]) + " |")
    return "\n".join(lines)
