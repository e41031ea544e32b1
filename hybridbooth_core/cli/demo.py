"""`hybridbooth demo`: the whole job at once, by default on a creature of the miniature that no network has seen."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..files.images import save_image
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
    command.add_argument("--steps", type=int, help="of the refinement (default: the method's own)")
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
    made, method = _made(booth, example, options.steps)
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


def _made(booth: HybridBooth, example: Example, steps: int | None) -> tuple[Any, str]:
    """The best start there is, refined; and the name of the method."""
    from tqdm import tqdm

    method, masks = booth.best_method().name, example.ref.masks
    with tqdm(desc="refining") as bar:

        def on_step(step: Step) -> None:
            bar.total = step.steps
            bar.update()
            bar.set_postfix(loss=f"{step.loss:.4f}")

        made = booth.make(example.ref.images, example.noun, mask=masks, method=method, steps=steps, on_step=on_step)
    return made, method


def _rows(booth: HybridBooth, example: Example, made: Any, method: str) -> tuple[list[Any], list[str]]:
    """The class noun, the start, the refined subject and the truth in all scenes; and a line of scores for each that is generated."""
    import torch
    from tqdm import tqdm

    from ..files.images import as_images
    from ..models.prompts import split_prompt
    from ..models.sampling import generate, initial_noise
    from ..report.board import Row

    start = "probe alone" if method == "hybridbooth" else "start"
    steps = len(made.losses)
    variants = [(f'"{example.noun}"', example.noun), (start, made.refinement.start), (f"refined, {steps} steps", made.artefact.embeddings)]
    rows, lines, how, model = [], [], booth.base.sampling, booth.base.model
    for title, subject in tqdm(variants, desc="drawing", unit="row"):
        prompts = [split_prompt(prompt, {"subject": subject}) for prompt in example.prompts]
        noise = initial_noise(len(prompts), model.latent_shape(), 0)
        batch = booth.base.batch
        parts = [
            generate(model, prompts[i : i + batch], noise[i : i + batch], how.steps, how.guidance, sampler=how.sampler)
            for i in range(0, len(prompts), batch)
        ]
        images = torch.cat(parts).cpu()
        note = ""
        if example.judge is not None:
            identity, prompt = example.judge(images)
            note = f"identity {identity:.2f}\nprompt {prompt:.2f}"
            lines.append(f"{title:>18}: identity {identity:.2f}, prompt {prompt:.2f}")
        rows.append(Row(title, images, note))
    if example.truth is not None:
        rows.append(Row("the creature itself", as_images(example.truth), "(drawn, not generated)"))
    return rows, lines


def _board(booth: HybridBooth, example: Example, made: Any, rows: list[Any]) -> Any:
    from ..encoders.features import target_squares
    from ..report.board import Board, board_image
    from ..report.subject_report import stride_of, token_attention

    model, refinement = booth.base.model, made.refinement
    square = target_squares(example.ref, model.image_size)
    attention = token_attention(model, square.images[0], made.artefact.embeddings).mean(0)
    stride = stride_of(refinement.validated, len(refinement.validation))
    board = Board(square, attention, rows, refinement.validation, stride, example.noun, example.titles)
    return board_image(board)
