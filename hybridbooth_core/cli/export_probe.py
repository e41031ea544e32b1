"""`hybridbooth export-probe`: a trained probe as a file to share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_to(commands) -> None:
    command = commands.add_parser(
        "export-probe",
        help="write a trained probe as a file to share, with its model card and hash",
        description="Writes the averaged weights of a training's newest checkpoint: FILE.safetensors for Load Probe, FILE.md (its model "
        "card) and FILE.safetensors.sha256. See docs/publishing.md.",
    )
    command.add_argument("run_folder", type=Path, metavar="RUN", help="the folder of the training (--out of train-probe)")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    command.add_argument("--overwrite", action="store_true", help="replace existing files")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ..bases.training import training_bases
    from ..training.export import export_probe

    files = export_probe(options.run_folder, options.out, options.overwrite, training_bases().hub_model)
    print(f"wrote {', '.join(str(path) for path in files)}")
    print("read the card before you share it: its data and licence fields come from your dataset; check them before publishing")
