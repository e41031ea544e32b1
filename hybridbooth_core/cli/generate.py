"""`hybridbooth generate`: a prompt with subjects in it to an image."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..errors import UserError
from ..files.images import output_file, save_image

log = logging.getLogger("hybridbooth")


def add_to(commands) -> None:
    command = commands.add_parser(
        "generate",
        help="draw a prompt that has subjects in it",
        description="Draws one image. <name> in the prompt stands for the subject of that name.",
    )
    command.add_argument("prompt", help='such as "a photo of <whiskers> with a hat on snow"')
    command.add_argument(
        "--subject", action="append", default=[], metavar="NAME=FILE", help="a subject's file, and its name in the prompt; may be repeated"
    )
    command.add_argument(
        "--strength", type=float, default=1.0, help="of all subjects: 0 is the class noun, 1 the subject, up to 2 exaggerates (default 1)"
    )
    command.add_argument(
        "--delay",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the steps, at their start, in which the class nouns stand for the subjects: better scenes, less likeness (default 0)",
    )
    command.add_argument("--seed", type=int, default=0, help="of the starting noise (default 0)")
    command.add_argument("--steps", type=int, default=15, help="sampling steps (default 15)")
    command.add_argument("--guidance", type=float, default=3.0, help="classifier-free guidance, 0 to 30 (default 3)")
    command.add_argument("--out", type=Path, required=True, metavar="PICTURE.png")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ..files.subject import check_name

    out = output_file(options.out, ".png", options.overwrite)
    files = {}
    for entry in options.subject:
        name, equals, file = entry.partition("=")
        if not equals:
            raise UserError(f"expected --subject NAME=FILE, found {entry!r}")
        files[check_name(name)] = Path(file)

    from contextlib import ExitStack

    from tqdm import tqdm

    from ..files.adapter_weights import AdapterWeights
    from ..methods.registry import load_artefact
    from ..miniature.bundle import load_model
    from ..miniature.world_model import LATENT_SHAPE
    from ..models.adapter import split_prompt
    from ..models.sampling import generate, initial_noise

    if not 1 <= options.steps <= 1000:
        raise UserError(f"expected 1 to 1000 sampling steps, found {options.steps}")
    if not 0 <= options.guidance <= 30:
        raise UserError(f"expected a guidance from 0 to 30, found {options.guidance}; 3 is usual here")
    if not 0 <= options.delay <= 1:
        raise UserError(f"expected a delay from 0 to 1, a share of the steps, found {options.delay}; 0.2 is usual")
    if options.delay and not files:
        raise UserError("there is no subject that --delay could hold back; add --subject NAME=FILE, or leave it out")
    for name in files:
        if f"<{name}>" not in options.prompt:
            log.warning("the subject %s is not in the prompt; write <%s> where it should be", name, name)
    model = load_model()
    artefacts = {name: load_artefact(path, model.embedding_width) for name, path in files.items()}
    adapter = [name for name, artefact in artefacts.items() if isinstance(artefact, AdapterWeights)]
    if len(adapter) > 1:
        raise UserError(
            f"{' and '.join(adapter)} change the model's weights, which only one subject of an image can; make the others of words"
        )
    nouns, early = {}, None
    if options.delay:
        for name, artefact in artefacts.items():
            with artefact.applied(model, 0.0) as noun:
                nouns[name] = noun
        early = [split_prompt(options.prompt, nouns)]
    with ExitStack() as applied, tqdm(total=options.steps, desc="drawing") as bar:
        subjects = {name: applied.enter_context(artefact.applied(model, options.strength)) for name, artefact in artefacts.items()}
        pieces = split_prompt(options.prompt, subjects)

        def on_step(done: int, total: int) -> None:
            bar.update()

        start = initial_noise(1, LATENT_SHAPE, options.seed)
        image = generate(
            model,
            [pieces],
            start,
            options.steps,
            options.guidance,
            early=early,
            delay=options.delay,
            on_step=on_step,
        )[0]
    save_image(image, out)
    print(f"wrote {out} ({image.shape[1]}x{image.shape[0]})")
