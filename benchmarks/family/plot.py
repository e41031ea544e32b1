"""The Pareto image: identity against prompt accuracy, a disc for each method and number of steps, its area the operations it took."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hybridbooth_core.errors import UserError

COLOURS = {
    "class_noun": "#8c8c8c",
    "encoder_only": "#c58b00",
    "hybridbooth": "#c8102e",
    "from_noun": "#e88a9a",
    "probe_free": "#e0607e",
    "textual_inversion": "#1f77b4",
    "textual_inversion_5": "#17a2b8",
    "dreambooth": "#2e7d32",
    "dreambooth_lora": "#7cb342",
    "custom_diffusion": "#7b3fa0",
    "lidb": "#5d4037",
    "hypernetwork": "#b0a000",
    "hyperdreambooth": "#ff7f0e",
    "instantbooth": "#00897b",
}
SMALLEST, LARGEST = 25.0, 900.0  # areas in points^2 of the cheapest and the dearest disc
AROUND = [(10 * x, 10 * y, 10 * math.hypot(x, y)) for x, y in ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))]
"""Where a label may go around its disc: a step (x, y) in points and its length."""


def disc_area(tflop: float, dearest: float) -> float:
    """Area in points^2, proportional to the operations above a smallest disc that can still be seen."""
    return SMALLEST + (LARGEST - SMALLEST) * (tflop / dearest if dearest > 0 else 0.0)


def pareto_image(result: dict, path: Path) -> None:
    """Draw `family.json` into a PNG or JPEG file.

    Raises:
        UserError: another kind of file, or a place that cannot be written.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"expected an image file that ends in .png or .jpg, found {path.name!r}")
    figure, _, _ = pareto_figure(result)
    try:
        figure.savefig(path, facecolor="white")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another place") from error


def pareto_figure(result: dict) -> tuple[Any, Any, list[Any]]:
    """The figure, its axes, and the labels' annotations, placed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = result["rows"]
    figure = Figure(figsize=(10, 6.5), dpi=130, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    dearest = max(row["tflop"] for row in rows)
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = sorted((row for row in rows if row["method"] == method), key=lambda row: row["steps"])
        x, y = [row["prompt"] for row in mine], [row["identity"] for row in mine]
        colour = COLOURS.get(method, "black")
        axes.plot(x, y, color=colour, linewidth=1.2, alpha=0.7, zorder=2)
        for row in mine:
            area = disc_area(row["tflop"], dearest)
            above = 4 - area / LARGEST  # small discs lie on large ones
            axes.scatter(row["prompt"], row["identity"], s=area, color=colour, alpha=0.75, edgecolors="white", linewidths=0.8, zorder=above)
        axes.scatter([], [], s=60, color=colour, label=mine[0]["title"])
    axes.set_xlabel("prompt accuracy (share of images in which every word of the scene came true)")
    axes.set_ylabel("identity (judge's cosine to a true render)")
    count = result["plan"]["identities"]
    axes.set_title(f"{count} creatures; numbers are steps; a disc's area is the operations of one personalisation", fontsize=10)
    axes.margins(0.08)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    canvas.draw()  # constrained layout settles the axes here, and labels are placed in their pixels
    return figure, axes, _label(axes, canvas.get_renderer(), rows, dearest)


def _label(axes: Any, renderer: Any, rows: list[dict], dearest: float) -> list[Any]:
    """The number of steps beside every disc, where it covers no other label and, if possible, no disc."""
    points = axes.figure.dpi / 72
    centres = [axes.transData.transform((row["prompt"], row["identity"])) for row in rows]
    radii = [math.sqrt(disc_area(row["tflop"], dearest) / math.pi) * points for row in rows]
    frame, placed, boxes = axes.bbox, [], []
    for index in sorted(range(len(rows)), key=lambda i: radii[i]):
        text = axes.annotate(
            str(rows[index]["steps"]),
            (rows[index]["prompt"], rows[index]["identity"]),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            color=COLOURS.get(rows[index]["method"], "black"),
            zorder=5,
        )

        def cost(offset: tuple[float, float], text=text) -> float:
            text.set_position(offset)
            box = text.get_window_extent(renderer)
            outside = not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
            on_discs = sum(_covers(box, centre, radius) for centre, radius in zip(centres, radii, strict=True))
            return 1000 * outside + 100 * sum(box.overlaps(other) for other in boxes) + on_discs

        text.set_position(min(_offsets(radii[index] / points), key=cost))
        placed.append(text)
        boxes.append(text.get_window_extent(renderer))
    return placed


def _offsets(radius: float) -> list[tuple[float, float]]:
    """Places around a disc of this radius, in points from its centre, near ones first."""
    return [(dx * (reach + radius / r), dy * (reach + radius / r)) for reach in (1.0, 1.6, 2.4, 3.4) for dx, dy, r in AROUND]


def _covers(box: Any, centre: Any, radius: float) -> bool:
    """Whether a label's box reaches into a disc, all in pixels."""
    x, y = min(max(centre[0], box.x0), box.x1), min(max(centre[1], box.y0), box.y1)
    return math.hypot(x - centre[0], y - centre[1]) < radius
