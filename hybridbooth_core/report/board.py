"""The demo's sample grid: the reference, the refinement, and a subject's variants in several scenes on one image.

Axes: S scenes, H W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..encoders.features import Reference
from .drawing import Page, fitted, outlined, with_heatmap

EDGE, CELL, PITCH, SMALL = 20, 170, 180, 148
LEFT, TOP = 410, 110


@dataclass(frozen=True)
class Row:
    """One variant of the subject in all scenes: images [S, H, W, 3], a title, and a line or two below it."""

    title: str
    images: Tensor
    note: str = ""


@dataclass(frozen=True)
class Board:
    """The contents of a sample grid.

    Attributes:
        attention: cross-attention [H, W] of the subject's tokens; None for a subject that is no tokens.
        validation, stride: losses from the start to the end, and the steps between two of them; empty for a method without steps.
        measured: what the losses are.
        noun: the class noun.
        titles: one title per scene.
    """

    ref: Reference
    attention: Tensor | None
    rows: Sequence[Row]
    validation: Sequence[float]
    stride: float
    noun: str
    titles: Sequence[str]
    measured: str = "validation loss by step"


def board_image(board: Board) -> Tensor:
    """Draws the sample grid as an image [H, W, 3] in 0..1."""
    rows, columns = len(board.rows), len(board.titles)
    page = Page(LEFT + columns * PITCH + EDGE, TOP + max(rows, 4) * PITCH + EDGE)
    page.text(LEFT + columns * PITCH / 2, 30, f"one image of a {board.noun}, {columns} new scenes", 22, "mm")
    _left_column(page, board)
    for column, title in enumerate(board.titles):
        page.text(LEFT + column * PITCH + CELL / 2, TOP - 26, title, 12.5, "mm", width=CELL)
    for number, row in enumerate(board.rows):
        y = TOP + number * PITCH
        page.text(LEFT - 18, y + CELL / 2, "\n".join(filter(None, (row.title, row.note))), 15, "rm")
        for column, image in enumerate(row.images):
            page.show(image, LEFT + column * PITCH, y, CELL, CELL)
    return page.pixels()


def _left_column(page: Page, board: Board) -> None:
    """Draws the reference, its mask, the attention and the validation losses."""
    image = fitted(board.ref.images[0], SMALL, SMALL)
    panels = [("reference image", image)]
    if board.ref.masks is not None:
        panels.append(("mask", outlined(image, board.ref.masks[0])))
    if board.attention is not None:
        panels.append(("attention of its words", with_heatmap(image, board.attention)))
    for number, (caption, panel) in enumerate(panels):
        page.show(panel, EDGE + 26, TOP - 22 + number * PITCH, SMALL, SMALL, caption)
    if len(board.validation) > 1:
        y = TOP - 22 + len(panels) * PITCH
        page.curve(board.validation, EDGE - 8, y, SMALL + 44, SMALL, board.measured, stride=board.stride)
