"""The demo's board: what went in, what came out, and what happened in between, on one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..encoders.features import Reference
from ..files.images import save_image
from ..miniature.bundle import Miniature
from ..miniature.captions import scene_prompt
from ..miniature.evaluate import join, score
from ..miniature.render import render
from ..miniature.world import Creatures, scene
from ..miniature.world_model import LATENT_SHAPE
from ..models.adapter import Piece
from ..models.sampling import generate, initial_noise
from ..report.drawing import Page, fitted, outlined, with_heatmap

EDGE, CELL, PITCH, SMALL = 20, 170, 180, 148
LEFT, TOP = 410, 110

SceneWords = Sequence[tuple[str, str, str, str, str]]


@dataclass(frozen=True)
class Row:
    """One variant of the subject in all scenes: images [S, H, W, 3], and the judge's means over them."""

    title: str
    images: Tensor
    identity: float
    prompt: float


@dataclass(frozen=True)
class Board:
    ref: Reference
    attention: Tensor  # [H, W], where the words look
    rows: list[Row]
    validation: list[float]
    best_step: int
    noun: str
    scenes: SceneWords


def draw_scenes(world: Miniature, who: Creatures, title: str, subject: Piece, scenes: SceneWords, seed: int = 0) -> Row:
    """The subject (words or text) in every scene, from the same noise for every variant."""
    where = join([scene(*words) for words in scenes])
    prompts = [scene_prompt(where, row, [subject]) for row in range(len(where))]
    images = generate(world.model, prompts, initial_noise(len(where), LATENT_SHAPE, seed))
    everyone = who[torch.zeros(len(where), dtype=torch.long)]
    scores = score(world.judge, images, everyone, where, (1, len(where)))
    return Row(title, images, scores.identity.mean().item(), scores.prompt.mean().item())


def true_row(who: Creatures, scenes: SceneWords) -> Row:
    """What the creature really looks like in these scenes: the ceiling, which no method sees."""
    where = join([scene(*words) for words in scenes])
    images, _ = render(who[torch.zeros(len(where), dtype=torch.long)], where)
    return Row("the creature itself", images, 1.0, 1.0)


def draw_board(board: Board, path: Path) -> None:
    """Write the board as a PNG; UserError if the place cannot be written."""
    rows, columns = len(board.rows), len(board.scenes)
    page = Page(LEFT + columns * PITCH + EDGE, TOP + max(rows, 4) * PITCH + EDGE)
    page.text(LEFT + columns * PITCH / 2, 30, f"one image of a {board.noun}, {columns} new scenes", 22, "mm")
    _left_column(page, board)
    for column, words in enumerate(board.scenes):
        page.text(LEFT + column * PITCH + CELL / 2, TOP - 26, _title(words), 12.5, "mm", width=CELL)
    for number, row in enumerate(board.rows):
        y = TOP + number * PITCH
        truth = row is board.rows[-1]
        judged = "(drawn, not generated)" if truth else f"identity {row.identity:.2f}\nprompt {row.prompt:.2f}"
        page.text(LEFT - 18, y + CELL / 2, f"{row.title}\n{judged}", 15, "rm")
        for column, image in enumerate(row.images):
            page.show(image, LEFT + column * PITCH, y, CELL, CELL)
    save_image(page.pixels(), path)


def _left_column(page: Page, board: Board) -> None:
    """What went in and what happened: the same panels as in a Subject Report."""
    image = fitted(board.ref.images[0], SMALL, SMALL)
    masked = image if board.ref.masks is None else outlined(image, board.ref.masks[0])
    panels = [("the one image given", image), ("its mask", masked), ("attention of its words", with_heatmap(image, board.attention))]
    for number, (caption, panel) in enumerate(panels):
        page.show(panel, EDGE + 26, TOP - 22 + number * PITCH, SMALL, SMALL, caption)
    page.curve(board.validation, board.best_step, EDGE - 8, TOP - 22 + 3 * PITCH, SMALL + 44, SMALL, "validation loss by step")


def _title(words: tuple[str, str, str, str, str]) -> str:
    background, place, size, accessory, style = words
    where = "in space" if background == "space" else f"on {background}"
    first = f"{size}, {'with a ' + accessory if accessory != 'none' else place}"
    return f"{first}\n{where}{'' if style == 'photo' else ', at ' + style}"
