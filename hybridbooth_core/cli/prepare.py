"""`hybridbooth prepare`: turns images into shards for training a probe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from ..data.cache import FeatureCache


def add_to(commands) -> None:
    command = commands.add_parser(
        "prepare",
        help="turn images into shards for training a probe",
        description="Reads a folder of images (one identity per subfolder, or as in metadata.jsonl) or WebDataset tars, leaves out images "
        "that are small or blurred or whose subject is too small or too large, and writes square crops, masks and descriptions to OUT. "
        "Stop it at any time; the same command continues. See docs/data.md.",
    )
    command.add_argument("source", type=Path, nargs="+", metavar="FOLDER|TAR", help="a folder of images or tars, or several tars")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder, or one to continue")
    keeping = command.add_argument_group("filters")
    keeping.add_argument("--size", type=int, default=512, metavar="PIXELS", help="side of the stored squares (default 512, for SD1.5)")
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
    saying = command.add_argument_group("descriptions")
    saying.add_argument("--class-noun", "--class-word", dest="class_word", metavar="NOUN", help="for images without one: cat, toy, person")
    saying.add_argument("--licence", metavar="NAME", help="for images without one; stored in the shards and the probe")
    masks = command.add_argument_group("masks", "cat.mask.png or cat_mask.png beside cat.jpg, its alpha channel, or made by InSPyReNet")
    masks.add_argument("--make-masks", type=Path, metavar="CKPT", help="InSPyReNet weights, for images without a mask (extra `prep`)")
    masks.add_argument("--mask-mode", default="base", metavar="MODE", help="kind of these weights: base (default), fast, base-nightly")
    caching = command.add_argument_group("cached features, so that training does not need the frozen networks (about 1.2 MB per image)")
    caching.add_argument("--model", metavar="MODEL", help="a Stable Diffusion 1.5 checkpoint or diffusers folder: caches latents")
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
    standards = Standards(options.size, options.min_side, tuple(options.area), options.max_blur, options.class_word, options.licence)
    maker = None
    if options.make_masks:
        from ..data.masks import load_mask_maker

        maker = load_mask_maker(options.make_masks, options.mask_mode, options.device)
    cache = _cache(options)
    with tqdm(unit=" images") as bar:

        def on_event(counts: Any) -> None:
            bar.update(counts["read"] - bar.n)
            bar.set_postfix(kept=counts["kept"], refresh=False)

        index = prepare(options.source, options.out, standards, options.shard_samples, maker, cache, options.workers, on_event)
    counts = index.counts
    print(f"kept {counts['kept']} of {counts['read']} images in {len(index.shards)} shards, {counts['with_mask']} with a mask")
    if counts["kept"] < counts["read"]:
        print(f"left out: {reasons(counts)}; listed in {options.out / 'left_out.jsonl'}")
    if counts["with_class"] < counts["kept"]:
        print(f"{counts['kept'] - counts['with_class']} images have no class noun; set it with --class-noun")


def _cache(options: argparse.Namespace) -> FeatureCache | None:
    if not options.model and not options.encoders:
        return None
    from ..bases.autoencoder import load_autoencoder
    from ..data.cache import FeatureCache
    from ..encoders.published import find_encoders
    from ..models.device import compute_device

    device = compute_device(options.device)
    encoders = find_encoders(options.encoders, options.dino, device) if options.encoders else None
    autoencoder = load_autoencoder(options.model, device, options.comfyui) if options.model else None
    return FeatureCache(encoders, autoencoder, options.whole_share)
