"""`hybridbooth generate`: a prompt with subjects in it to images."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..errors import UserError
from ..files.images import output_file, save_image
from ..models.schedulers import SCHEDULERS
from .options import add_model_options, load, subject_file

log = logging.getLogger("hybridbooth")


def add_to(commands) -> None:
    command = commands.add_parser(
        "generate",
        help="draw a prompt that has subjects in it",
        description="Draws a prompt. <name> in it stands for the subject of that name. The PNG carries the prompt and the settings.",
    )
    command.add_argument("prompt", help='such as "a photo of <whiskers> with a hat on snow"')
    command.add_argument(
        "--subject",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a subject's file (with --comfyui also the name of an embedding), and its name in the prompt; may be repeated",
    )
    command.add_argument("--negative", default="", metavar="PROMPT", help="what the image should not show")
    command.add_argument(
        "--strength", type=float, default=1.0, help="of all subjects: 0 is the class noun, 1 the subject, up to 2 exaggerates (default 1)"
    )
    command.add_argument(
        "--delay",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the steps, from the start, in which the class nouns stand for the subjects: better scenes, less likeness",
    )
    add_model_options(command, probe=False)
    group = command.add_argument_group("sampling")
    group.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    group.add_argument("--steps", type=int, help="sampling steps (default: 15 for the miniature, 30 for Stable Diffusion 1.5)")
    group.add_argument("--guidance", type=float, help="classifier-free guidance, 0 to 30 (default: 3 for the miniature, 7.5)")
    group.add_argument("--sampler", choices=SCHEDULERS, help="one of diffusers' (default: a plain DDIM for the miniature, dpm++_2m)")
    group.add_argument("--size", type=int, metavar="PIXELS", help="a side of the square image (default: the model's own)")
    group.add_argument("--batch", type=int, default=1, metavar="N", help="images; those after the first get a number (default 1)")
    command.add_argument("--out", type=Path, required=True, metavar="IMAGE.png")
    command.add_argument("--overwrite", action="store_true", help="replace existing files")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ..files.subject import check_name
    from ..methods.registry import load_artefact

    if not 1 <= options.batch <= 64:
        raise UserError(f"expected a batch of 1 to 64 images, found {options.batch}")
    outs = [output_file(path, ".png", options.overwrite) for path in numbered(options.out, options.batch)]
    subjects = {}
    for entry in options.subject:
        name, equals, file = entry.partition("=")
        if not equals:
            raise UserError(f"expected --subject NAME=FILE, found {entry!r}")
        subjects[check_name(name)] = load_artefact(subject_file(file, options.comfyui))  # before the model, which takes a while
    if options.delay and not subjects:
        raise UserError("there is no subject that --delay could hold back; add --subject NAME=FILE, or leave it out")
    for name in subjects:
        if f"<{name}>" not in options.prompt:
            log.warning("the subject %s is not in the prompt; write <%s> where it should be", name, name)

    from tqdm import tqdm

    booth = load(options)
    defaults = booth.base.sampling
    steps = defaults.steps if options.steps is None else options.steps
    guidance = defaults.guidance if options.guidance is None else options.guidance
    sampler = options.sampler or defaults.sampler
    with tqdm(total=steps, desc="drawing", disable=None) as bar:

        def on_step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        images = booth.generate_batch(
            options.prompt, options.batch, subjects=subjects, strength=options.strength, delay=options.delay, negative=options.negative,
            steps=steps, guidance=guidance, sampler=sampler, size=options.size, seed=options.seed, on_step=on_step,
        )  # fmt: skip
    facts = {"Steps": steps, "Sampler": sampler or "DDIM", "CFG scale": f"{guidance:g}", "Seed": options.seed}
    facts["Model"] = booth.base.model.name
    for number, (image, out) in enumerate(zip(images, outs, strict=True)):
        own = {**facts, "Size": f"{image.width}x{image.height}", "Image of the batch": number}
        settings = ", ".join(f"{name}: {value}" for name, value in own.items())
        negative = f"Negative prompt: {options.negative}\n" if options.negative.strip() else ""
        save_image(image, out, {"parameters": f"{options.prompt}\n{negative}{settings}"})  # as AUTOMATIC1111 writes it
        print(f"wrote {out} ({image.width}x{image.height})")


def numbered(path: Path, count: int) -> list[Path]:
    """NAME.png, NAME_2.png, NAME_3.png ..."""
    return [path, *(path.with_name(f"{path.stem}_{number}{path.suffix}") for number in range(2, count + 1))]
