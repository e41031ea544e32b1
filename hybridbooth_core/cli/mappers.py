"""`hybridbooth convert-mapper`: a published word mapper to a file that the nodes read."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..files.images import output_file


def add_to(commands) -> None:
    command = commands.add_parser(
        "convert-mapper",
        help="make a file for ComfyUI of a published word mapper (ELITE, Pic2Word, SEARLE, LinCIR)",
        description="Reads the weights alone: nothing in the file is run. Put the result into models/hybridbooth. The licence of the "
        "weights goes with them; without --licence it is that of their authors' repository.",
    )
    command.add_argument("file", type=Path, metavar="FILE", help="as its authors published it: .pt, .pth, .bin or .safetensors")
    command.add_argument("--out", type=Path, required=True, metavar="NAME.safetensors")
    command.add_argument("--licence", metavar="NAME", help="of the weights, if it is not that of the repository")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ..mappers.files import convert, summary

    out = output_file(options.out, ".safetensors", options.overwrite)
    mapper = convert(options.file, out, options.licence)
    print(summary(mapper))
    print(f"wrote {out} ({out.stat().st_size} bytes); put it into models/hybridbooth, for the node Initial Words (Published Mapper)")
