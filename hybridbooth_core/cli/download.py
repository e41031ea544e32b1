"""`hybridbooth download-encoders`: CLIP ViT-L/14 and DINOv2, pinned by revision and hash. The only command that asks the network."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..encoders.catalogue import CLIP_L
from ..encoders.published import DINO_SIZES


def add_to(commands) -> None:
    command = commands.add_parser(
        "download-encoders",
        help="fetch the encoders that a probe, or the method probe_free, reads images with",
        description="Fetches an encoder's pinned revision and checks its hash. A file that is there already is kept.",
    )
    command.add_argument(
        "encoder", choices=["clip", *(f"dinov2-{size}" for size in DINO_SIZES)], help="CLIP ViT-L/14 (1.7 GB), or a DINOv2"
    )
    place = command.add_mutually_exclusive_group(required=True)
    place.add_argument("--to", type=Path, metavar="DIR", help="the folder that --encoders names afterwards")
    place.add_argument("--comfyui", type=Path, metavar="DIR", help="a ComfyUI folder: into its models/hybridbooth, where the nodes look")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from ..bases.comfyui import model_folders
    from ..encoders.catalogue import CATALOGUE
    from ..encoders.download import download_encoder

    entry = CLIP_L if options.encoder == "clip" else CATALOGUE[DINO_SIZES[options.encoder.removeprefix("dinov2-")]]
    folder = options.to or model_folders(options.comfyui, "hybridbooth")[0]
    with tqdm(total=entry.size, unit="B", unit_scale=True, desc=entry.label) as bar:

        def progress(done: int, total: int) -> None:
            bar.update(done - bar.n)

        path = download_encoder(entry, folder, progress)
    print(f"{entry.label} ({entry.licence}): {path}")
