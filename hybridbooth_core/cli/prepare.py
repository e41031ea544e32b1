"""`hybridbooth prepare`: images into shards for training a probe."""

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
        help="images into shards for training a probe",
        description="Reads a folder of images (each inner folder one identity, or as its metadata.jsonl says) or tars of the WebDataset "
        "kind, leaves out what is too small, blurred, or shows too much or too little of its subject, and writes squares, masks and what "
        "is known of them into OUT. Stop it at any time; the same command goes on. See docs/data.md.",
    )
    command.add_argument("source", type=Path, nargs="+", metavar="FOLDER|TAR", help="a folder of images or of tars, or several tars")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder, or one that was begun so")
    keeping = command.add_argument_group("which images are kept")
    keeping.add_argument("--size", type=int, default=512, metavar="PIXELS", help="side of the stored squares (default 512, SD1.5's)")
    keeping.add_argument("--min-side", type=int, default=0, metavar="PIXELS", help="of the original (default: as --size)")
    keeping.add_argument(
        "--area",
        type=float,
        nargs=2,
        default=(0.1, 0.7),
        metavar=("LEAST", "MOST"),
        help="share of the subject, by its mask (default .1 .7)",
    )
    keeping.add_argument("--max-blur", type=float, default=0.6, metavar="B", help="0 is sharp, 1 keeps all (default 0.6)")
    saying = command.add_argument_group("what is known of them")
    saying.add_argument(
        "--class-noun", "--class-word", dest="class_word", metavar="NOUN", help="of images that say nothing of it: cat, toy, person"
    )
    saying.add_argument("--licence", metavar="NAME", help="of images that say nothing of it; goes into the shards and the probe")
    masks = command.add_argument_group("masks", "cat.mask.png or cat_mask.png beside cat.jpg, an image's transparency, or made")
    masks.add_argument("--make-masks", type=Path, metavar="CKPT", help="InSPyReNet's weights, for images without a mask (extra `prep`)")
    masks.add_argument("--mask-mode", default="base", metavar="MODE", help="which weights they are: base (default), fast, base-nightly")
    caching = command.add_argument_group("what frozen networks see, computed now so that training need not (about 1.2 MB an image)")
    caching.add_argument("--model", metavar="MODEL", help="a Stable Diffusion 1.5 checkpoint or diffusers folder: cache its latents")
    caching.add_argument("--base", dest="model", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    caching.add_argument("--comfyui", type=Path, metavar="DIR", help="a ComfyUI folder: its checkpoints are found by name")
    caching.add_argument("--encoders", type=Path, nargs="+", metavar="DIR", help="hold CLIP ViT-L/14 and DINOv2: cache their tokens")
    caching.add_argument("--dino", choices=["L", "B", "S"], default="L", help="size of DINOv2 (default L)")
    caching.add_argument(
        "--whole-share", type=float, default=0.2, metavar="S", help="of masked images whose tokens are of the whole square (default 0.2)"
    )
    working = command.add_argument_group("working")
    working.add_argument("--shard-samples", type=int, default=128, metavar="N", help="images in a shard (default 128)")
    working.add_argument("--workers", type=int, metavar="N", help="images read at the same time (default: the machine's cores)")
    working.add_argument("--device", metavar="NAME", help="of the networks: cpu, cuda, cuda:1 (default: cuda where there is one)")
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
        print(f"left out: {reasons(counts)}; named in {options.out / 'left_out.jsonl'}")
    if counts["with_class"] < counts["kept"]:
        print(f"{counts['kept'] - counts['with_class']} images have no class noun; --class-noun gives one")


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
