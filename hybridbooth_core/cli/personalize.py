"""`hybridbooth personalize`: pictures of a subject to its file."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError
from .files import load_picture, output_file


def add_to(commands) -> None:
    command = commands.add_parser(
        "personalize",
        help="make a subject from one or more pictures of it",
        description="Looks at the pictures with the probe, refines its guess for a few steps, and writes the subject's words.",
    )
    command.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="a picture of the subject; several must be of one size")
    command.add_argument("--class-word", required=True, metavar="NOUN", help="what kind of thing it is, such as cat")
    command.add_argument(
        "--mask",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="white on the subject, black elsewhere; once for each picture, in their order (better results; may be left out)",
    )
    command.add_argument("--steps", type=int, default=5, help="refinement steps, 3 to 5 are enough; 0 keeps the probe's guess (default 5)")
    command.add_argument(
        "--mode",
        choices=["residual", "words", "paper_literal"],
        default="residual",
        help="what the steps move: the probe's cross-attention (residual, default), the words themselves, or the probe with the constants "
        "as printed in the paper, which moves nothing",
    )
    command.add_argument(
        "--effective-step", type=float, metavar="S", help="lambda x learning rate, or share of a word's length (default: the probe's own)"
    )
    command.add_argument("--seed", type=int, default=0, help="of the refinement's noise (default 0)")
    command.add_argument("--out", type=Path, required=True, metavar="NAME.safetensors", help="the file's name is the subject's name")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ..subject import check_name

    out = output_file(options.out, ".safetensors", options.overwrite)
    check_name(out.stem)
    if options.mask and len(options.mask) != len(options.pictures):
        raise UserError(f"expected a mask for each of the {len(options.pictures)} pictures or none, found {len(options.mask)}")

    import torch
    from tqdm import tqdm

    from ..features import extract_features, reference
    from ..miniature.bundle import load_miniature
    from ..personalize import personalize
    from ..refine import RefineConfig

    config = RefineConfig(mode=options.mode, steps=options.steps, effective_step=options.effective_step, seed=options.seed)
    pictures = [load_picture(path) for path in options.pictures]
    shapes = {tuple(picture.shape[1:]) for picture in pictures}
    if len(shapes) > 1:
        raise UserError("expected pictures of one size and kind, found several; crop them to one")
    masks = [load_picture(path, "L")[..., 0] for path in options.mask]
    ref = reference(torch.cat(pictures), _stack(masks))
    world = load_miniature()
    with tqdm(total=config.steps, desc="refining", disable=config.steps == 0) as bar:

        def on_step(done: int, total: int, loss: float) -> None:
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}")

        features = extract_features(world.model, world.clip, world.dino, ref)
        result = personalize(world.model, world.probe, ref, features, options.class_word, config, on_step)
    result.subject.save(out, options.overwrite)
    print(result.report())
    print(f'wrote {out} ({out.stat().st_size} bytes); use it as "a photo of <{out.stem}> on snow"')


def _stack(masks):
    import torch

    if not masks:
        return None
    if len({mask.shape for mask in masks}) > 1:
        raise UserError("expected masks of one size, the pictures'; found several sizes")
    return torch.cat(masks)
