"""`hybridbooth train-probe`: a probe from images, or from the miniature."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..training.callbacks import TrainingBases


def add_to(commands) -> None:
    # Its settings are dataclasses, which tyro reads; so nothing is an option here, and all words are handed on.
    command = commands.add_parser("train-probe", help="train a probe (its own --help tells more)", add_help=False, prefix_chars="\0")
    command.add_argument("words", nargs=argparse.REMAINDER)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from ..training.command import run as train

    return train(options.words, training_bases())


HUB_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"


def training_bases() -> TrainingBases:
    """What the base models offer to training."""
    from ..bases.data_networks import load_autoencoder
    from ..bases.sd15 import load_model
    from ..errors import UserError
    from ..miniature.training import probe as miniature
    from ..training.callbacks import TrainingBases
    from ..training.presets import SD15_PRESETS
    from ..training.setup import prepare_training

    def prepare(config, device):
        if config.model == "miniature":
            return miniature.prepare_miniature_training(config, device)
        folder = Path(config.model)
        if not folder.is_dir():
            raise UserError(f"expected --model as a diffusers folder of Stable Diffusion 1.5, or miniature; found no folder {folder}")
        return prepare_training(config, device, lambda: load_model(folder, device), lambda: load_autoencoder(folder, "cpu").fingerprint)

    about = "the miniature world's own probe, on a CPU, downloading nothing"
    presets = {"miniature": (about, lambda: miniature.CONFIG), **SD15_PRESETS}
    return TrainingBases(presets, prepare, lambda model: "" if model == "miniature" else HUB_MODEL)
