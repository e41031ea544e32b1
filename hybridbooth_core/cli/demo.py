"""`hybridbooth demo`: the whole job at once, by default on a creature of the miniature that no network has seen."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..api import AUTO
from ..errors import UserError
from ..files.images import save_image
from ..methods.registry import METHODS
from ..models.progress import Step
from .options import add_model_options, load

if TYPE_CHECKING:
    from ..api import HybridBooth
    from ..miniature.example import Example


def add_to(commands) -> None:
    command = commands.add_parser(
        "demo",
        help="the whole job in under a minute, without downloads",
        description="Takes one image of a creature of the miniature world, makes it a subject, and draws it in six new scenes. Writes "
        "subject.safetensors and board.png. The judge's scores: identity 1 is the same creature, 0 another; prompt is the share of "
        "images in which every word of the scene came true. With --model, --image and --class-noun it does the same with your photo.",
    )
    command.add_argument("--out", type=Path, default=Path("hybridbooth_demo"), metavar="DIR", help="default: hybridbooth_demo")
    command.add_argument("--identity", type=int, default=4, metavar="N", help="which test creature, 0 to 9999 (default 4)")
    command.add_argument("--image", type=Path, metavar="FILE", help="your photo instead of a creature")
    command.add_argument("--mask", type=Path, metavar="FILE", help="of your photo: white on the subject")
    command.add_argument("--class-noun", "--class-word", dest="class_noun", default="", metavar="NOUN", help="what your photo shows")
    command.add_argument(
        "--method", choices=[AUTO, *METHODS], default=AUTO, metavar="NAME", help=f"{', '.join(METHODS)} (default: the best start there is)"
    )
    command.add_argument("--steps", type=int, help="of the method (default: its own)")
    add_model_options(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    began = time.perf_counter()
    out: Path = options.out
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {out} cannot be made ({error.strerror}); choose another with --out") from error
    booth = load(options)
    example = _example(booth, options)
    loaded = time.perf_counter()
    made, method = _made(booth, example, options.method, options.steps)
    finished = time.perf_counter()
    rows, lines = _rows(booth, example, made, method)
    save_image(_board(booth, example, made, rows), out / "board.png")
    made.artefact.save(out / "subject.safetensors", overwrite=True)
    print(made.report)
    for line in lines:
        print(line)
    drawn = time.perf_counter()
    print(f"{loaded - began:.1f} s loading, {finished - loaded:.1f} s making the subject, {drawn - finished:.1f} s drawing")
    print(f"wrote {out / 'board.png'} and {out / 'subject.safetensors'}")


def _example(booth: HybridBooth, options: argparse.Namespace) -> Example:
    """The user's photo, or the base's own example."""
    from ..miniature.example import Example

    if options.image is None:
        return booth.base.example(options.identity)
    if not options.class_noun.strip():
        raise UserError("expected --class-noun beside --image, such as dog; say what the photo shows")
    scenes = booth.base.scenes
    prompts = tuple(scene.replace("{name}", "subject") for scene in scenes)
    titles = tuple(scene.replace("<{name}>", "...") for scene in scenes)
    return Example(booth.reference(options.image, options.mask), options.class_noun.strip(), titles, prompts)


def _made(booth: HybridBooth, example: Example, method: str, steps: int | None) -> tuple[Any, str]:
    """The subject, and the name of the method: by default the best start there is, refined."""
    from tqdm import tqdm

    method, masks = booth.best_method().name if method == AUTO else method, example.ref.masks
    with tqdm(desc="refining" if method == "hybridbooth" else method) as bar:

        def on_step(step: Step) -> None:
            bar.total = step.steps
            bar.update()
            bar.set_postfix(loss=f"{step.loss:.4f}")

        made = booth.make(example.ref.images, example.noun, mask=masks, method=method, steps=steps, on_step=on_step)
    return made, method


def _rows(booth: HybridBooth, example: Example, made: Any, method: str) -> tuple[list[Any], list[str]]:
    """The class noun, the start if any, the subject and the truth in all scenes; and a line of scores for each that is generated."""
    from tqdm import tqdm

    from ..files.images import as_images
    from ..files.subject import Subject
    from ..report.board import Row

    steps = len(made.losses)
    variants: list[tuple[str, Any]] = [(f'"{example.noun}"', None)]
    if made.refinement is not None:
        start = "probe alone" if method in ("hybridbooth", "polished", "encoder_only") else "start"
        variants.append((start, Subject(made.refinement.start)))
    title = f"refined, {steps} steps" if method == "hybridbooth" else method.replace("_", " ") + (f",\n{steps} steps" if steps else "")
    if method != "encoder_only":
        variants.append((title, made.artefact))
    rows, lines = [], []
    for title, subject in tqdm(variants, desc="drawing", unit="row"):
        images, note = _drawn(booth, example, subject), ""
        if example.judge is not None:
            identity, prompt = example.judge(images)
            note = f"identity {identity:.2f}\nprompt {prompt:.2f}"
            lines.append(f"{title.replace(chr(10), ' '):>18}: identity {identity:.2f}, prompt {prompt:.2f}")
        rows.append(Row(title, images, note))
    if example.truth is not None:
        rows.append(Row("the creature itself", as_images(example.truth), "(drawn, not generated)"))
    return rows, lines


def _drawn(booth: HybridBooth, example: Example, subject: Any) -> Any:
    """The example's prompts with a subject, or with the class noun if it is None: images [S, H, W, 3]."""
    from contextlib import nullcontext

    import torch

    from ..models.prompts import split_prompt
    from ..models.sampling import generate, initial_noise

    how, model, batch = booth.base.sampling, booth.base.model, booth.base.batch
    with nullcontext([example.noun]) if subject is None else subject.applied(model) as pieces:
        prompts = [split_prompt(prompt, {"subject": pieces}) for prompt in example.prompts]
        noise = initial_noise(len(prompts), model.latent_shape(), 0)
        parts = [
            generate(model, prompts[i : i + batch], noise[i : i + batch], how.steps, how.guidance, sampler=how.sampler)
            for i in range(0, len(prompts), batch)
        ]
    return torch.cat(parts).cpu()


def _board(booth: HybridBooth, example: Example, made: Any, rows: list[Any]) -> Any:
    from ..encoders.features import target_squares
    from ..files.subject import Subject
    from ..report.board import Board, board_image
    from ..report.subject_report import stride_of, token_attention

    model, refinement = booth.base.model, made.refinement
    square, attention = target_squares(example.ref, model.image_size), None
    if isinstance(made.artefact, Subject):
        attention = token_attention(model, square.images[0], made.artefact.embeddings).mean(0)
    if refinement is None:
        board = Board(square, attention, rows, made.losses, 1.0, example.noun, example.titles, "training loss by step")
    else:
        stride = stride_of(refinement.validated, len(refinement.validation))
        board = Board(square, attention, rows, refinement.validation, stride, example.noun, example.titles)
    return board_image(board)
