"""`hybridbooth personalize`: images of a subject to its file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files.images import as_images, output_file, save_image
from ..models.progress import Step
from . import methods
from .options import add_model_options, load


def add_to(commands) -> None:
    command = commands.add_parser(
        "personalize",
        help="make a subject from one or more images of it",
        description="Makes a subject that prompts can name: initial embeddings by a probe, by CLIP or from the class noun, refined by a "
        "few steps through the model; or by one of the methods it is compared with.",
    )
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="an image of the subject; several must be of one size")
    command.add_argument(
        "--class-noun",
        "--class-word",
        dest="class_noun",
        default="",
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
    add_model_options(command)
    methods.add_options(command)
    command.add_argument("--seed", type=int, default=0, help="of all noise (default 0)")
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="NAME.safetensors",
        help="the file's name is the subject's name; dreambooth on Stable Diffusion 1.5 writes a checkpoint, or, without an ending, a "
        "diffusers folder",
    )
    command.add_argument(
        "--report", type=Path, metavar="FILE.png", help="also draw the image, its mask, where the tokens attend, and how the loss fell"
    )
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ..files.subject import Subject, check_name
    from ..methods.registry import find_method
    from ..probe.reading import Reading

    given = methods.chosen(options)
    if given.get("prior_weight") == 0 and "prior_images" in given:
        raise UserError("with --prior-weight 0 no class image is drawn, so --prior-images means nothing; leave one of them out")
    if options.mask and len(options.mask) != len(options.images):
        raise UserError(f"expected a mask for each of the {len(options.images)} images or none, found {len(options.mask)}")
    if options.method != methods.AUTO:
        found = find_method(options.method)
        if options.report and found.makes != "subject":
            raise UserError(f"the method {found.name} has no --report; leave it out, or choose a method that makes a subject")
        if "class_noun" in found.needs and not options.class_noun.strip():
            raise UserError(f"the method {found.name} needs --class-noun NOUN, such as cat; only probe_free finds one by itself")
        found.configuration(**given)
    if options.out.suffix:
        output_file(options.out, ".safetensors", options.overwrite)
    if options.report:
        output_file(options.report, ".png", options.overwrite)
    check_name(options.out.stem)
    as_images(options.images)  # before the model, which takes a while
    if options.mask:
        as_images(options.mask, "L")

    booth = load(options)
    method = booth.best_method() if options.method == methods.AUTO else find_method(options.method)
    if not options.out.suffix and method.makes != "full":
        raise UserError(f"expected an output file that ends in .safetensors, found {options.out.name!r}")
    booth.base.check_output(options.out, method.makes)
    if options.method == methods.AUTO and method.name != "hybridbooth":
        print(f"no probe for {booth.base.title}: the method is {method.name} ({method.summary})")
    made = _made(booth, options, method.name, given)
    report = booth.report(made.artefact, options.images, options.mask or None) if options.report else None  # type: ignore[arg-type]
    booth.save(made.artefact, options.out, options.overwrite)  # type: ignore[arg-type]
    if report is not None:
        save_image(report, options.report)
    print(f"{made.report}\nmethod: {method.name}, model: {booth.base.model.name}")
    size = f" ({options.out.stat().st_size} bytes)" if options.out.is_file() else ""
    info: Any = made.artefact.info  # type: ignore[attr-defined]  # of a Subject, of AdapterWeights or of a Reading
    named = isinstance(made.artefact, Subject | Reading) or info.form == "polished"
    use = f"<{options.out.stem}>" if named else f"{info.token} {info.class_noun}"
    print(f'wrote {options.out}{size}; use it as "a photo of {use} on snow"')


def _made(booth: Any, options: argparse.Namespace, method: str, given: dict[str, Any]) -> Any:
    """The artefact and its report, with bars that show the progress."""
    from tqdm import tqdm

    with tqdm(desc="drawing the class", disable=None, leave=False) as drawing, tqdm(desc=method, disable=None) as bar:

        def on_class_images(done: int, total: int) -> None:
            drawing.total = total
            drawing.update(done - drawing.n)

        def on_step(step: Step) -> None:
            bar.total = step.steps
            bar.update()
            bar.set_postfix(loss=f"{step.loss:.4f}")

        return booth.make(
            options.images,
            options.class_noun,
            mask=options.mask or None,
            method=method,
            steps=options.steps,
            seed=options.seed,
            on_step=on_step,
            on_class_images=on_class_images,
            **given,
        )
