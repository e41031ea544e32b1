"""`hybridbooth demo`: the whole job on a creature that no network has seen."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..errors import UserError

SCENES = (
    ("snow", "middle", "big", "none", "photo"),
    ("grass", "left", "small", "hat", "photo"),
    ("water", "right", "big", "crown", "photo"),
    ("sand", "left", "big", "hat", "sunset"),
    ("brick", "middle", "small", "none", "night"),
    ("space", "middle", "big", "crown", "photo"),
)


def add_to(commands) -> None:
    command = commands.add_parser(
        "demo",
        help="the whole job in under a minute, without downloads",
        description="Takes one image of a creature of the miniature world, makes it a subject, and draws it in six new scenes. Writes "
        "subject.safetensors and board.png. The judge's scores: identity 1 is the same creature, 0 another; prompt is the share of "
        "images in which every word of the scene came true.",
    )
    command.add_argument("--out", type=Path, default=Path("hybridbooth_demo"), metavar="DIR", help="default: hybridbooth_demo")
    command.add_argument("--identity", type=int, default=4, metavar="N", help="which test creature, 0 to 9999 (default 4)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    began = time.perf_counter()
    out: Path = options.out
    from tqdm import tqdm

    from ..encoders.features import extract_features
    from ..miniature.bundle import load_miniature
    from ..miniature.evaluate import class_nouns, reference_of
    from ..miniature.world import creatures, split_numbers
    from ..refine.personalize import personalize
    from ..refine.refine import RefineConfig
    from ..report.subject_report import token_attention
    from .board import Board, Row, draw_board, draw_scenes, true_row

    try:
        who = creatures(split_numbers("test", 1, options.identity))
    except ValueError as error:
        raise UserError(str(error)) from error
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {out} cannot be made ({error.strerror}); choose another with --out") from error
    world = load_miniature()
    loaded = time.perf_counter()
    noun, ref, config = class_nouns(who)[0], reference_of(who, 0), RefineConfig()
    with tqdm(total=config.steps, desc="refining") as bar:

        def on_step(done: int, total: int, loss: float) -> None:
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}")

        result = personalize(
            world.model, world.probe, ref, extract_features(world.model, world.clip, world.dino, ref), noun, config, on_step
        )
    made = time.perf_counter()
    words = result.subject.embeddings
    variants = [(f'"{noun}"', noun), ("probe alone", result.start), (f"refined, {config.steps} steps", words)]
    rows: list[Row] = []
    for title, subject in tqdm(variants, desc="drawing", unit="row"):
        rows.append(draw_scenes(world, who, title, subject, SCENES))
    rows.append(true_row(who, SCENES))
    attention = token_attention(world.model, ref.images[0], words).mean(0)
    board = Board(ref, attention, rows, result.refinement.validation, result.refinement.best_step, noun, SCENES)
    draw_board(board, out / "board.png")
    result.subject.save(out / "subject.safetensors", overwrite=True)

    print(result.report())
    for row in rows[:-1]:
        print(f"{row.title:>18}: identity {row.identity:.2f}, prompt {row.prompt:.2f}")
    drawn = time.perf_counter()
    print(f"{loaded - began:.1f} s loading, {made - loaded:.1f} s making the subject, {drawn - made:.1f} s drawing")
    print(f"wrote {out / 'board.png'} and {out / 'subject.safetensors'}")
