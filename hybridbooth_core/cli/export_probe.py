"""`hybridbooth export-probe`: a trained network as a file to share; `hybridbooth export`: a subject as a LoRA for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError
from .options import add_model_options, load


def add_to(commands) -> None:
    command = commands.add_parser(
        "export-probe",
        help="write a trained probe, hypernetwork or adapter as a file to share, with its model card and hash",
        description="Writes the averaged weights of a training's newest checkpoint: FILE.safetensors for the nodes that load it, FILE.md "
        "(its model card) and FILE.safetensors.sha256. See docs/publishing.md.",
    )
    command.add_argument("run_folder", type=Path, metavar="RUN", help="the folder of the training (its --out)")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    command.add_argument("--overwrite", action="store_true", help="replace existing files")
    command.set_defaults(run=run)
    subject = commands.add_parser(
        "export",
        help="write Lightweight DreamBooth (lidb) as the LoRA that it is, for other programs",
        description="Reads a file of the methods lidb and hypernetwork, and writes the same subject as a LoRA of rank 1 in kohya's layout, "
        "which stock ComfyUI, AUTOMATIC1111 and diffusers load. The model is needed for the sizes of its layers.",
    )
    subject.add_argument("subject", type=Path, metavar="SUBJECT.safetensors")
    subject.add_argument("--out", type=Path, required=True, metavar="LORA.safetensors")
    subject.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_model_options(subject, probe=False)
    subject.set_defaults(run=run_export)


def run_export(options: argparse.Namespace) -> None:
    from ..files.adapter_weights import AdapterWeights
    from ..files.images import output_file

    output_file(options.out, ".safetensors", options.overwrite)
    weights = AdapterWeights.load(options.subject)
    if weights.info.form != "lidb":
        raise UserError(f"{options.subject.name} is a {weights.info.form}, which other programs read as it is; only lidb needs an export")
    lora = weights.as_lora(load(options).base.model)
    lora.save(options.out, options.overwrite)
    print(f'wrote {options.out}; load it as a LoRA, and write "{lora.info.token} {lora.info.class_noun}" in prompts')


def run(options: argparse.Namespace) -> None:
    from ..bases.training import training_bases
    from ..training.export import export_probe

    files = export_probe(options.run_folder, options.out, options.overwrite, training_bases().hub_model)
    print(f"wrote {', '.join(str(path) for path in files)}")
    print("read the card before you share it: its data and licence fields come from your dataset; check them before publishing")
