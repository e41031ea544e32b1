"""`hybridbooth train-probe`: a probe from images, or from the miniature."""

from __future__ import annotations

import argparse


def add_to(commands) -> None:
    # Its settings are dataclasses, which tyro reads; so nothing is an option here, and all words are handed on.
    command = commands.add_parser("train-probe", help="train a probe (its own --help tells more)", add_help=False, prefix_chars="\0")
    command.add_argument("words", nargs=argparse.REMAINDER)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from ..bases.training import training_bases
    from ..training.command import run as train

    return train(options.words, training_bases())
