"""`hybridbooth prepare`: turns images into shards for training a probe."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from ..data.cache import FeatureCache
    from ..data.drawing import Drawing


def add_to(commands) -> None:
    command = commands.add_parser(
        "prepare",
        help="turn images into shards for training a probe",
        description="Reads a folder of images (one identity per subfolder, or as in metadata.jsonl) or WebDataset tars, or lets a base "
        "model draw subjects (--draw), leaves out images "
        "that are small or blurred or whose subject is too small or too large, and writes square crops, masks and descriptions to OUT. "
        "Stop it at any time; the same command continues. See docs/data.md.",
    )
    command.add_argument("source", type=Path, nargs="*", metavar="FOLDER|TAR", help="a folder of images or tars, or several tars")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder, or one to continue")
    keeping = command.add_argument_group("filters")
    keeping.add_argument("--size", type=int, metavar="PIXELS", help="side of the stored squares (default: 512, or what --model draws)")
    keeping.add_argument("--min-side", type=int, default=0, metavar="PIXELS", help="minimum of the shorter side (default: --size)")
    keeping.add_argument(
        "--area",
        type=float,
        nargs=2,
        default=(0.1, 0.7),
        metavar=("MIN", "MAX"),
        help="fraction of the square that the mask covers (default 0.1 0.7)",
    )
    keeping.add_argument("--max-blur", type=float, default=0.6, metavar="B", help="maximum blur: 0 sharp, 1 keeps all (default 0.6)")
    drawing = command.add_argument_group(
        "drawing", "images that --model draws itself, with masks from its attention: a training set from nothing but the checkpoint"
    )
    drawing.add_argument("--draw", type=int, metavar="N", help="so many subjects, in place of a folder")
    drawing.add_argument("--views", type=int, default=2, metavar="N", help="scenes of each subject, from one noise (default 2)")
    drawing.add_argument("--vocabulary", type=Path, metavar="FILE", help="what to draw, see docs/data.md (default: the model's own)")
    drawing.add_argument("--seed", type=int, default=0, metavar="N", help="of descriptions and noise (default 0)")
    drawing.add_argument("--dry-run", action="store_true", help="draw one batch and say how long the whole takes; write nothing")
    saying = command.add_argument_group("descriptions")
    saying.add_argument("--class-noun", "--class-word", dest="class_word", metavar="NOUN", help="for images without one: cat, toy, person")
    saying.add_argument("--licence", metavar="NAME", help="for images without one; stored in the shards and the probe")
    masks = command.add_argument_group("masks", "cat.mask.png or cat_mask.png beside cat.jpg, its alpha channel, or made by InSPyReNet")
    masks.add_argument("--make-masks", type=Path, metavar="CKPT", help="InSPyReNet weights, for images without a mask (extra `prep`)")
    masks.add_argument("--mask-mode", default="base", metavar="MODE", help="kind of these weights: base (default), fast, base-nightly")
    caching = command.add_argument_group("cached features, so that training does not need the frozen networks (about 1.2 MB per image)")
    caching.add_argument(
        "--model", metavar="MODEL", help="a Stable Diffusion 1.5 checkpoint or diffusers folder: caches latents, and draws for --draw"
    )
    caching.add_argument("--base", dest="model", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    caching.add_argument("--comfyui", type=Path, metavar="DIR", help="a ComfyUI folder: its checkpoints are found by name")
    caching.add_argument("--encoders", type=Path, nargs="+", metavar="DIR", help="folders with CLIP ViT-L/14 and DINOv2: caches tokens")
    caching.add_argument("--dino", choices=["L", "B", "S"], default="L", help="size of DINOv2 (default L)")
    caching.add_argument(
        "--whole-share",
        type=float,
        default=0.2,
        metavar="S",
        help="fraction of masked images that are encoded uncropped (default 0.2)",
    )
    working = command.add_argument_group("processing")
    working.add_argument("--shard-samples", type=int, default=128, metavar="N", help="images per shard (default 128)")
    working.add_argument("--workers", type=int, metavar="N", help="images read in parallel (default: number of cores)")
    working.add_argument("--device", metavar="NAME", help="for the networks: cpu, cuda, cuda:1 (default: cuda if available)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from ..data.prepare import prepare, reasons
    from ..data.samples import Standards

    if options.workers is not None and not 1 <= options.workers <= 1024:
        raise UserError(f"expected 1 to 1024 workers, found {options.workers}")
    standards = Standards(options.size or 512, options.min_side, tuple(options.area), options.max_blur, options.class_word, options.licence)
    drawing = _drawing(options)
    if drawing is not None:
        standards = replace(standards, size=options.size or drawing.model.image_size)
        if options.dry_run:
            print(forecast(drawing))
            return
    maker = None
    if options.make_masks:
        from ..data.masks import load_mask_maker

        maker = load_mask_maker(options.make_masks, options.mask_mode, options.device)
    cache = _cache(options)
    with tqdm(unit=" images") as bar:

        def on_event(counts: Any) -> None:
            bar.update(counts["read"] - bar.n)
            bar.set_postfix(kept=counts["kept"], refresh=False)

        index = prepare(
            options.source if drawing is None else drawing,
            options.out,
            standards,
            options.shard_samples,
            maker,
            cache,
            options.workers,
            on_event,
        )
    counts = index.counts
    print(f"kept {counts['kept']} of {counts['read']} images in {len(index.shards)} shards, {counts['with_mask']} with a mask")
    if counts["kept"] < counts["read"]:
        print(f"left out: {reasons(counts)}; listed in {options.out / 'left_out.jsonl'}")
    if counts["with_class"] < counts["kept"]:
        print(f"{counts['kept'] - counts['with_class']} images have no class noun; set it with --class-noun")


def _drawing(options: argparse.Namespace) -> Drawing | None:
    """What draws the images, None without --draw.

    Raises:
        UserError: --draw beside a folder, without a model, or an option of drawing without it.
    """
    if options.draw is None:
        if options.dry_run or options.vocabulary:
            raise UserError("expected --draw beside --dry-run and --vocabulary, found none; say how many subjects to draw")
        if not options.source:
            raise UserError("expected a folder of images or tars, or --draw N with --model, found neither")
        return None
    if options.source or not options.model:
        raise UserError("expected --draw with --model and without a folder; the model draws what a folder would hold")
    from ..bases import load_base
    from ..data.drawing import DrawingSettings
    from ..data.vocabulary import Vocabulary

    DrawingSettings(options.draw, options.views)  # refuses numbers before the model is loaded
    vocabulary = Vocabulary.read(options.vocabulary) if options.vocabulary else None
    base = load_base(options.model, device=options.device, comfyui=options.comfyui)
    return base.drawing(base.model, options.draw, options.views, vocabulary, options.seed)


def forecast(drawing: Drawing) -> str:
    """How long the whole takes on this device, from the second of two batches."""
    drawing.read(0, 0, 0)
    began = time.perf_counter()
    batch, count = drawing.settings.batch, drawing.settings.count
    drawing.read(min(batch, count - 1), 0, 0)
    seconds = time.perf_counter() - began if count > batch else 0.0
    total = seconds * -(-count // batch)
    images, place = count * drawing.settings.views, drawing.model.device
    return f"{images} images take about {total / 3600:.1f} hours on {place} ({total / images:.2f} s an image); nothing was written"


def _cache(options: argparse.Namespace) -> FeatureCache | None:
    # beside --draw, --model is what draws; its latents are of use to a training together with tokens only
    if not options.encoders and (not options.model or options.draw is not None):
        return None
    from ..bases.autoencoder import load_autoencoder
    from ..data.cache import FeatureCache
    from ..encoders.published import find_encoders
    from ..models.device import compute_device

    device = compute_device(options.device)
    encoders = find_encoders(options.encoders, options.dino, device) if options.encoders else None
    autoencoder = load_autoencoder(options.model, device, options.comfyui) if options.model else None
    return FeatureCache(encoders, autoencoder, options.whole_share)
