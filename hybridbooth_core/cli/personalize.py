"""`hybridbooth personalize`: images of a subject to its file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..files.images import load_image, output_file, save_image
from . import methods, probe_free

if TYPE_CHECKING:
    from ..encoders.features import Reference
    from ..miniature.bundle import Miniature
    from ..refine.personalize import Personalization


def add_to(commands) -> None:
    command = commands.add_parser(
        "personalize",
        help="make a subject from one or more images of it",
        description="Looks at the images with the probe, refines its guess for a few steps, and writes the subject's words. Other "
        "methods are there to compare with.",
    )
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="an image of the subject; several must be of one size")
    command.add_argument(
        "--class-noun",
        "--class-word",
        dest="class_noun",
        metavar="NOUN",
        help="what kind of thing it is, such as cat (probe_free finds one without)",
    )
    command.add_argument(
        "--mask",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="white on the subject, black elsewhere; once for each image, in their order (better results; may be left out)",
    )
    methods.add_options(command)
    command.add_argument(
        "--mode",
        choices=["auto", "learned", "residual", "words", "paper_literal"],
        help="of hybridbooth: the steps that the probe has learnt (learned), the gradient on its cross-attentions (residual, the paper's "
        "form) or on the words, or the paper's printed constants, which move nothing (default auto: learned if the probe can)",
    )
    command.add_argument(
        "--step-size",
        "--effective-step",
        dest="step_size",
        type=float,
        metavar="S",
        help="of hybridbooth: share of a learned step, lambda x learning rate, or share of a word's length (default: the probe's own); of "
        "probe_free: share of a word's length",
    )
    command.add_argument("--seed", type=int, default=0, help="of all noise (default 0)")
    command.add_argument("--out", type=Path, required=True, metavar="NAME.safetensors", help="the file's name is the subject's name")
    command.add_argument(
        "--report",
        type=Path,
        metavar="FILE.png",
        help="of hybridbooth and probe_free: also draw the image, mask, where the words look and how the loss fell",
    )
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ..files.subject import check_name

    out = output_file(options.out, ".safetensors", options.overwrite)
    if options.report:
        output_file(options.report, ".png", options.overwrite)
        if options.method not in methods.REFINED:
            raise UserError(f"the method {options.method} has no --report; leave it out, or choose the method hybridbooth or probe_free")
    check_name(out.stem)
    if options.mask and len(options.mask) != len(options.images):
        raise UserError(f"expected a mask for each of the {len(options.images)} images or none, found {len(options.mask)}")

    if not options.class_noun and options.method != "probe_free":
        raise UserError(f"the method {options.method} needs --class-word NOUN, such as cat; only probe_free finds one by itself")
    methods.chosen_options(options)

    import torch

    from ..encoders.features import reference
    from ..files.subject import Subject
    from ..miniature.bundle import load_miniature
    from ..report.subject_report import subject_report

    images = [load_image(path) for path in options.images]
    shapes = {tuple(image.shape[1:]) for image in images}
    if len(shapes) > 1:
        raise UserError("expected images of one size and kind, found several; crop them to one")
    masks = [load_image(path, "L")[..., 0] for path in options.mask]
    ref = reference(torch.cat(images), _stack(masks))
    world = load_miniature()
    if options.method == "hybridbooth":
        result = _hybridbooth(options, world, ref)
        artefact, report = result.subject, result.report()
    elif options.method == "probe_free":
        result, report = probe_free.personalized(options, world, ref)
        artefact = result.subject
    else:
        trained = methods.train(options, world, ref)
        artefact, report = trained.artefact, f"{options.method}, {len(trained.losses)} steps"
    image = subject_report(world.model, ref, artefact) if options.report and isinstance(artefact, Subject) else None
    artefact.save(out, options.overwrite)
    if image is not None:
        save_image(image, options.report)
    print(report)
    print(f'wrote {out} ({out.stat().st_size} bytes); use it as "a photo of <{out.stem}> on snow"')


def _hybridbooth(options: argparse.Namespace, world: Miniature, ref: Reference) -> Personalization:
    from tqdm import tqdm

    from ..encoders.features import extract_features
    from ..refine.personalize import personalize
    from ..refine.refine import RefineConfig

    chosen = methods.chosen_options(options)
    mode, steps = chosen.pop("mode", "auto"), methods.steps_of(options)
    if chosen:
        raise UserError(f"the method hybridbooth has no --{next(iter(chosen)).replace('_', '-')}; leave it out, or choose another --method")
    config = RefineConfig(mode=mode, steps=steps, step_size=options.step_size, seed=options.seed)
    with tqdm(total=steps, desc="refining", disable=steps == 0) as bar:

        def on_step(done: int, total: int, loss: float) -> None:
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}")

        features = extract_features(world.model, world.clip, world.dino, ref)
        return personalize(world.model, world.probe, ref, features, options.class_noun, config, on_step)


def _stack(masks):
    import torch

    if not masks:
        return None
    if len({mask.shape for mask in masks}) > 1:
        raise UserError("expected masks of one size, the images'; found several sizes")
    return torch.cat(masks)
