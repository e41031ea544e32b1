"""`hybridbooth miniature`: makes the miniature world, or shows it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import UserError
from ..files.images import output_file, save_image


def add_to(commands) -> None:
    group = commands.add_parser("miniature", help="the miniature world: train it from nothing, or draw what is in it")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)

    train = actions.add_parser(
        "train",
        help="train every network of the world from nothing",
        description="Seeded and counted in steps. Stop it at any time; the same command continues. Under two and a half hours on two CPU "
        "cores; on a CUDA GPU the schedules are longer. Ends with the gates, measured on the float16 weights as shipped.",
    )
    train.add_argument("--work", type=Path, default=Path("miniature_training"), help="checkpoints and curves (default miniature_training)")
    train.add_argument("--out", type=Path, help="where the weights go (default: into the installed package)")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--only-steps", type=int, metavar="N", help="cut every stage to N steps: a trial of the machinery, not a good world")
    alone = train.add_mutually_exclusive_group()
    alone.add_argument("--probe-only", action="store_true", help="keep the world and train only its probe")
    alone.add_argument(
        "--learners-only", action="store_true", help="keep the world and train only its hypernetwork and InstantBooth adapter"
    )
    train.set_defaults(run=run_train)

    sheet = actions.add_parser(
        "creature", help="draw one creature as reference image and mask", description="Writes NAME.png and NAME_mask.png, 64x64."
    )
    sheet.add_argument("number", type=int, help="0 to 9999, a test creature: no network has seen it")
    sheet.add_argument("--out", type=Path, required=True, metavar="NAME.png")
    sheet.add_argument("--overwrite", action="store_true", help="replace existing files")
    sheet.set_defaults(run=run_creature)


def run_train(options: argparse.Namespace) -> int:
    from ..miniature.bundle import WEIGHTS
    from ..miniature.training.make import make_world, renew_learners, renew_probe

    if options.only_steps is not None and options.only_steps < 1:
        raise UserError(f"expected at least one step a stage, found {options.only_steps}")
    make = renew_probe if options.probe_only else renew_learners if options.learners_only else make_world
    manifest = make(options.work, options.out or WEIGHTS, options.seed, options.only_steps)
    print(json.dumps(manifest["gates"], indent=2))
    print("all gates passed" if manifest["gates_passed"] else "a gate is missed: these weights are not good enough to build on")
    return 0 if manifest["gates_passed"] else 1


def run_creature(options: argparse.Namespace) -> None:
    from ..miniature.evaluate import class_nouns, reference_of
    from ..miniature.world import creatures, split_numbers

    out = output_file(options.out, ".png", options.overwrite)
    mask_out = output_file(out.with_name(f"{out.stem}_mask.png"), ".png", options.overwrite)
    try:
        who = creatures(split_numbers("test", 1, options.number))
    except ValueError as error:
        raise UserError(str(error)) from error
    ref = reference_of(who, 0)
    assert ref.masks is not None
    save_image(ref.images[0], out)
    save_image(ref.masks[0, ..., None].expand(-1, -1, 3), mask_out)
    print(f"wrote {out} and {mask_out}; it is a {class_nouns(who)[0]}")
