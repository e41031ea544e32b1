"""`hybridbooth train-probe`, `train-hypernetwork`, `train-adapter`: train on images, or in the miniature world."""

from __future__ import annotations

import argparse

COMMANDS = {
    "train-probe": ("probe", "a probe"),
    "train-hypernetwork": ("hypernetwork", "HyperDreamBooth's hypernetwork"),
    "train-adapter": ("instantbooth", "InstantBooth's adapter"),
}


def add_to(commands) -> None:
    # tyro parses the options, since the settings are dataclasses: everything is passed on.
    for name, (learner, what) in COMMANDS.items():
        command = commands.add_parser(name, help=f"train {what} (see {name} --help)", add_help=False, prefix_chars="\0")
        command.add_argument("words", nargs=argparse.REMAINDER)
        command.set_defaults(run=run, learner=learner)


def run(options: argparse.Namespace) -> int:
    from ..bases.training import training_bases
    from ..training.command import run as train

    return train(options.words, training_bases(), options.learner)
