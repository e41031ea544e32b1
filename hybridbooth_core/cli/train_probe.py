"""`hybridbooth train-probe`: trains a probe on images, or in the miniature world."""

from __future__ import annotations

import argparse


def add_to(commands) -> None:
    # tyro parses the options, since the settings are dataclasses: everything is passed on.
    command = commands.add_parser("train-probe", help="train a probe (see train-probe --help)", add_help=False, prefix_chars="\0")
    command.add_argument("words", nargs=argparse.REMAINDER)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from ..bases.training import training_bases
    from ..training.command import run as train

    return train(options.words, training_bases())
