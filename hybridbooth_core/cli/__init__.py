"""The command `hybridbooth`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from ..errors import UserError
from . import demo, download, evaluate, export_probe, generate, make_probe, mappers, miniature, personalize, prepare, train_probe

EPILOG = """\
with your own checkpoint:
  hybridbooth personalize dog.jpg --class-noun dog --model v1-5-pruned-emaonly.safetensors --out rex.safetensors
  hybridbooth generate "a photo of <rex> on the moon" --subject rex=rex.safetensors --model v1-5-pruned-emaonly.safetensors --out moon.png
without any download:
  hybridbooth demo
  hybridbooth miniature creature 7 --out cat.png
  hybridbooth personalize cat.png --mask cat_mask.png --class-noun cat --out whiskers.safetensors
  hybridbooth generate "a photo of <whiskers> with a hat on snow" --subject whiskers=whiskers.safetensors --out hat.png
"""


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="hybridbooth",
        description="One photo of a subject in, five token embeddings out, the subject in new images. --model is your Stable Diffusion 1.5 "
        "checkpoint; without it, the miniature world that comes with the package.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (demo, personalize, generate, miniature, evaluate, mappers, make_probe, prepare, train_probe, export_probe, download):
        command.add_to(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0; 2 for an error that the user can fix, in one sentence; 130 when interrupted."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("hybridbooth").setLevel(logging.INFO)
    options = parser().parse_args(argv)
    try:
        return options.run(options) or 0
    except UserError as error:
        print(f"hybridbooth: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hybridbooth: interrupted; nothing half-made was left behind", file=sys.stderr)
        return 130
