"""The demo's board: what went in, what came out, and what happened in between, on one picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..attention import joined_map
from ..diffusers_model import DiffusersModel
from ..diffusion_model import AttentionTap, Piece
from ..errors import UserError
from ..features import Reference
from ..miniature.bundle import Miniature
from ..miniature.captions import scene_prompt
from ..miniature.evaluate import join, score
from ..miniature.render import render
from ..miniature.world import Creatures, scene
from ..miniature.world_model import LATENT_SHAPE
from ..sampling import generate, starting_noise

SceneWords = Sequence[tuple[str, str, str, str, str]]


@dataclass(frozen=True)
class Row:
    """One variant of the subject in all scenes: pictures [S, H, W, 3], and the judge's means over them."""

    title: str
    pictures: Tensor
    identity: float
    prompt: float


@dataclass(frozen=True)
class Board:
    ref: Reference
    attention: Tensor  # [H, W] in 0..1
    rows: list[Row]
    validation: list[float]
    best_step: int
    noun: str
    scenes: SceneWords


def draw_scenes(world: Miniature, who: Creatures, title: str, subject: Piece, scenes: SceneWords, seed: int = 0) -> Row:
    """The subject (words or text) in every scene, from the same noise for every variant."""
    where = join([scene(*words) for words in scenes])
    prompts = [scene_prompt(where, row, [subject]) for row in range(len(where))]
    pictures = generate(world.model, prompts, starting_noise(len(where), LATENT_SHAPE, seed))
    everyone = who[torch.zeros(len(where), dtype=torch.long)]
    scores = score(world.judge, pictures, everyone, where, (1, len(where)))
    return Row(title, pictures, scores.identity.mean().item(), scores.prompt.mean().item())


@torch.no_grad()
def attention_of(model: DiffusersModel, ref: Reference, words: Tensor, share: float = 0.6) -> Tensor:
    """Where in the reference the subject's words look, [H, W] in 0..1, at one noise level (`share` of the schedule)."""
    latents = model.encode_image(ref.pictures[:1])
    t = torch.tensor([int(share * len(model.schedule))])
    noise = starting_noise(1, tuple(latents.shape[1:]), 0)
    encoded = model.encode_prompts([["a photo of", words]])
    tap = AttentionTap(encoded.columns)
    model.predict_noise(model.schedule.add_noise(latents, noise, t), t, encoded.context, tap)
    return joined_map(tap.maps, ref.pictures.shape[1])[0]


def true_row(who: Creatures, scenes: SceneWords) -> Row:
    """What the creature really looks like in these scenes: the ceiling, which no method sees."""
    where = join([scene(*words) for words in scenes])
    pictures, _ = render(who[torch.zeros(len(where), dtype=torch.long)], where)
    return Row("the creature itself", pictures, 1.0, 1.0)


def draw_board(board: Board, path: Path) -> None:
    """Write the board as a PNG; UserError if the place cannot be written."""
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

    rows, columns = len(board.rows), len(board.scenes)
    figure = Figure(figsize=(2.0 + 1.62 * (columns + 1.35), 1.0 + 1.62 * rows), dpi=110, facecolor="white")
    left = GridSpec(4, 1, figure, left=0.045, right=0.165, top=0.95, bottom=0.05, hspace=0.24)
    picture, mask = board.ref.pictures[0], board.ref.masks
    _show(figure.add_subplot(left[0]), picture, "the one picture given")
    if mask is not None:
        _show(figure.add_subplot(left[1]), mask[0, ..., None].expand(-1, -1, 3), "its mask")
    axes = figure.add_subplot(left[2])
    _show(axes, 0.35 * picture + 0.1, "where its words look")
    axes.imshow(board.attention.numpy(), cmap="inferno", alpha=0.75, interpolation="bilinear")
    _curve(figure.add_subplot(left[3]), board)

    grid = GridSpec(rows, columns, figure, left=0.30, right=0.995, top=0.875, bottom=0.012, hspace=0.06, wspace=0.05)
    for r, row in enumerate(board.rows):
        for c in range(columns):
            axes = figure.add_subplot(grid[r, c])
            _show(axes, row.pictures[c], _title(board.scenes[c]) if r == 0 else "", size=8.5)
            if c == 0:
                truth = row is board.rows[-1]
                text = (
                    f"{row.title}\n(drawn, not generated)"
                    if truth
                    else f"{row.title}\nidentity {row.identity:.2f}\nprompt {row.prompt:.2f}"
                )
                axes.text(-0.12, 0.5, text, transform=axes.transAxes, ha="right", va="center", fontsize=10.5)
    figure.text(0.645, 0.965, f"one picture of a {board.noun}, six new scenes", ha="center", va="center", fontsize=13, weight="bold")
    partial = path.with_name(f".{path.name}.partial")
    try:
        figure.savefig(partial, format="png")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another folder") from error
    finally:
        partial.unlink(missing_ok=True)


def _title(words: tuple[str, str, str, str, str]) -> str:
    background, place, size, accessory, style = words
    where = "in space" if background == "space" else f"on {background}"
    first = f"{size}, {'with a ' + accessory if accessory != 'none' else place}"
    return f"{first}\n{where}{'' if style == 'photo' else ', at ' + style}"


def _show(axes, picture: Tensor, title: str, size: float = 9.5) -> None:
    axes.imshow(picture.clamp(0, 1).numpy(), interpolation="lanczos")
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=size, pad=3)


def _curve(axes, board: Board) -> None:
    axes.plot(range(len(board.validation)), board.validation, marker="o", markersize=3.5, color="#3366aa")
    axes.plot(board.best_step, board.validation[board.best_step], marker="o", markersize=8, mfc="none", color="#cc3311")
    axes.set_title("validation loss by step", fontsize=9.5, pad=3)
    axes.tick_params(labelsize=7)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
