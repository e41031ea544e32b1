"""`hybridbooth make-probe`: a probe from nothing but a checkpoint, which draws its own training set."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.images import output_file
from ..models.progress import Step
from .options import add_device_options

if TYPE_CHECKING:
    import torch

    from ..bases.base import Base
    from ..data.cache import FeatureCache
    from ..training.config import TrainConfig


def add_to(commands) -> None:
    command = commands.add_parser(
        "make-probe",
        help="make a probe from nothing but a checkpoint",
        description="Lets the model draw subjects in several scenes each, with masks from its own attention, and trains a probe on them: "
        "the file is for Load Probe, and for --probe. Takes hours (--dry-run says how many); stop it at any time, the same command "
        "continues. See docs/own_probe.md.",
    )
    command.add_argument(
        "--model", required=True, metavar="MODEL", help="a Stable Diffusion 1.5 checkpoint, a diffusers folder, or miniature"
    )
    command.add_argument("--out", type=Path, required=True, metavar="NAME.safetensors", help="the probe; beside it its card and its hash")
    command.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="for the drawings and checkpoints, to be deleted afterwards (default: NAME.work beside --out)",
    )
    command.add_argument("--subjects", type=int, metavar="N", help="subjects to draw, in two scenes each (default: 4000)")
    command.add_argument("--steps", type=int, metavar="N", help="training steps (default: those of the model's preset)")
    command.add_argument("--vocabulary", type=Path, metavar="FILE", help="what to draw, see docs/data.md (default: the model's own)")
    command.add_argument("--comfyui", type=Path, metavar="DIR", help="a ComfyUI folder: its checkpoints and encoders are found by name")
    command.add_argument(
        "--encoders", type=Path, nargs="+", default=[], metavar="DIR", help="folders with CLIP ViT-L/14 and DINOv2, under any names"
    )
    command.add_argument("--dino", choices=["L", "B", "S"], default="L", help="size of DINOv2 (default L)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of drawings and training (default 0)")
    command.add_argument("--dry-run", action="store_true", help="draw a few subjects, train a few steps, and say how long it all takes")
    add_device_options(command, dtype=False)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ..data.drawing import DrawingSettings
    from ..models.device import compute_device
    from ..training.export import check_export
    from ..training.own_probe import SUBJECTS, VIEWS, train_on_drawings

    output_file(options.out, ".safetensors", overwrite=False)
    check_export(options.out)
    subjects = SUBJECTS if options.subjects is None else options.subjects
    DrawingSettings(subjects, VIEWS)  # refuses a number before anything is loaded
    device = compute_device(options.device)
    if options.dry_run:
        with tempfile.TemporaryDirectory() as folder:
            _dry_run(options, subjects, Path(folder), device)
        return
    from tqdm import tqdm

    work = options.work or options.out.with_suffix(".work")
    base, cache = _load(options, device)
    config = _config(options, base, work)
    _draw(options, base, cache, subjects, work)
    with tqdm(desc="training", disable=None) as bar:

        def on_step(step: Step) -> None:
            bar.total = step.steps
            bar.update(step.done - bar.n)
            bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)

        train_on_drawings(config, lambda config: base.prepare_training(config, device, base.model), options.out, on_step)
    print(f"wrote {options.out} with its card and hash; {work} is no longer needed")
    print(f"use it with --probe {options.out}, or put it into models/hybridbooth for Load Probe")


def _load(options: argparse.Namespace, device: torch.device) -> tuple[Base, FeatureCache | None]:
    """The base, and what caches features for a training that reads them.

    Raises:
        UserError: the model or an encoder is missing.
    """
    from ..bases import load_base
    from ..bases.comfyui import encoder_folders
    from ..data.cache import FeatureCache
    from ..encoders.published import find_encoders

    base = load_base(options.model, device=options.device, comfyui=options.comfyui)
    if not _preset(base).data.cached:
        return base, None
    from ..bases.autoencoder import load_autoencoder

    folders = [*options.encoders, *(encoder_folders(options.comfyui) if options.comfyui else ())]
    encoders = find_encoders(folders, options.dino, device)
    return base, FeatureCache(encoders, load_autoencoder(options.model, device, options.comfyui))


def _preset(base: Base) -> TrainConfig:
    return base.presets()[base.own_probe][1]()


def _config(options: argparse.Namespace, base: Base, work: Path) -> TrainConfig:
    from ..training.own_probe import own_config

    where = {"model": base.source, "dino": options.dino, "device": options.device or ""}
    return own_config(_preset(base), work, options.steps, seed=options.seed, **where)


def _draw(options: argparse.Namespace, base: Base, cache: FeatureCache | None, subjects: int, work: Path) -> None:
    from tqdm import tqdm

    from ..data.vocabulary import Vocabulary
    from ..training.own_probe import VIEWS, draw_shards

    vocabulary = Vocabulary.read(options.vocabulary) if options.vocabulary else None
    drawing = base.drawing(base.model, subjects, VIEWS, vocabulary, options.seed)
    with tqdm(desc="drawing", total=subjects * VIEWS, unit=" images", disable=None) as bar:

        def on_event(counts: Mapping[str, Any]) -> None:
            bar.update(counts["read"] - bar.n)
            bar.set_postfix(kept=counts["kept"], refresh=False)

        draw_shards(drawing, work, cache, on_event)


def _dry_run(options: argparse.Namespace, subjects: int, folder: Path, device: torch.device) -> None:
    """Draws a few subjects and trains a few steps in a folder that is deleted afterwards."""
    from ..training.distributed import DistributedEnv
    from ..training.dry_run import dry_run
    from ..training.own_probe import VIEWS

    base, cache = _load(options, device)
    config = _config(options, base, folder)
    config = replace(config, data=replace(config.data, interleave=1))  # a filter may leave fewer images than shards to mix
    few = max(4, 2 * base.batch)
    _draw(options, base, cache, few // 2, folder / "first")  # the first pass is slower
    began = time.perf_counter()
    _draw(options, base, cache, few, folder)
    hours = (time.perf_counter() - began) / few * subjects / 3600
    print(f"drawing: {subjects * VIEWS} images of {subjects} subjects take about {hours:.1f} hours on {device}")
    context, probe, _ = base.prepare_training(config, device, base.model)
    dry_run(config, context, probe, DistributedEnv.alone(device))
