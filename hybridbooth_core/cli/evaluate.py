"""`hybridbooth evaluate`: the DreamBooth protocol on a Stable Diffusion 1.5 model."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..methods.registry import METHODS
from .options import add_model_options

if TYPE_CHECKING:
    from ..evaluation.encoders import Encoders


def add_to(commands) -> None:
    command = commands.add_parser(
        "evaluate",
        help="the DreamBooth protocol: how well a method keeps subjects and follows prompts",
        description="Makes every subject of the dataset by a method, draws 4 images for each of its 25 prompts, and measures DINO, "
        "CLIP-I, CLIP-T and LPIPS diversity. Stop it at any time; the same command continues. Writes OUT/result.json.",
        epilog="The dataset is the folder `dataset` of github.com/google/dreambooth. The encoders are openai/clip-vit-base-patch32, "
        "openai/clip-vit-large-patch14, timm/vit_small_patch16_224.dino and timm/vgg16.tv_in1k.",
    )
    command.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="folders of photos, and prompts_and_classes.txt")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="images and result; a stopped run continues there")
    model = add_model_options(command, required=True)
    model.add_argument("--download", action="store_true", help="fetch encoders of the metrics that the hub's cache lacks (2.9 GB)")
    model.add_argument(
        "--untrained", action="store_true", help="metrics by encoders with random weights, to try the procedure: they mean nothing"
    )
    making = command.add_argument_group("making subjects")
    making.add_argument(
        "--method",
        default="class_noun",
        metavar="NAME",
        help=f"{', '.join(METHODS)}; or class_noun, the baseline that knows nothing of the subject (default)",
    )
    making.add_argument("--artefacts", type=Path, metavar="DIR", help="use DIR/<subject>.safetensors instead of a method")
    making.add_argument("--training-steps", type=int, metavar="N", help="of the method (default: its published number)")
    making.add_argument("--rate", type=float, metavar="R", help="the method's learning rate (default: its published one)")
    making.add_argument("--inputs", default="1", metavar="N", help="photos that the method is given, from the first on, or all (default 1)")
    drawing = command.add_argument_group("drawing")
    drawing.add_argument("--subjects", type=int, metavar="N", help="only the first N (default all)")
    drawing.add_argument("--prompts", type=int, metavar="N", help="only the first N of each subject's 25 (default all)")
    drawing.add_argument("--images", "--pictures", type=int, default=4, metavar="N", help="for each prompt (default 4)")
    drawing.add_argument("--steps", type=int, default=50, help="sampling steps (default 50)")
    drawing.add_argument("--guidance", type=float, default=7.5, help="classifier-free guidance, 0 to 30 (default 7.5)")
    drawing.add_argument("--seed", type=int, default=0, help="of making and of the starting noise (default 0)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ..evaluation.encoders import check_packages

    check_packages()
    from tqdm import tqdm

    from ..evaluation.drawing import DrawingConfig
    from ..evaluation.encoders import hub_cache
    from ..evaluation.making import NETWORKS, MakingConfig, NetworkKit
    from ..evaluation.protocol import read_dataset
    from ..evaluation.run import WARNING, evaluate
    from .options import load

    if bool(options.encoders) + options.download + options.untrained > 1:
        raise UserError("expected one of --encoders, --download and --untrained, found several; leave the others out")
    if options.artefacts and options.method != "class_noun":
        raise UserError("expected --method or --artefacts, found both; files need no method")
    making = MakingConfig(
        "files" if options.artefacts else options.method,
        options.training_steps,
        options.rate,
        options.seed,
        _inputs(options.inputs),
        artefacts=options.artefacts,
    )
    drawing = DrawingConfig(options.images, options.steps, options.guidance, options.seed)
    subjects = read_dataset(options.dataset, options.subjects, options.prompts)
    folders = options.encoders or [hub_cache()]
    given = [(name, file) for name in NETWORKS if (file := getattr(options, name))]
    if len(given) > 1:
        raise UserError(f"expected one of --probe, --hypernetwork and --adapter, found {len(given)}; give the one that the method needs")
    kit = NetworkKit.load(given[0][0], Path(given[0][1]), folders) if given else None
    encoders = _encoders(options)  # before the hours of drawing, so that they are not in vain
    booth = load(options)
    needs = METHODS[making.method].needs if making.method in METHODS else ()
    space = booth.base.clip_space([*folders, *booth.encoders]) if "clip_space" in needs else None
    with tqdm(bar_format="{desc} {n_fmt}/{total_fmt} [{elapsed}]", total=1) as bar:

        def on_event(what: str, done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.set_description_str(what)

        result = evaluate(
            booth.base.model, options.dataset, subjects, making, drawing, encoders, options.out, kit, command_of(options), on_event, space
        )
    for name, figure in result["means"].items():
        print(f"{name:>20}: {_figure(figure)}")
    if not result["full_protocol"]:
        taken = " x ".join(f"{number} {what}" for what, number in result["size"].items())
        print(f"a part of the protocol: {taken}, not 30 x 25 x 4")
    if encoders.untrained:
        print(f"warning: {WARNING}")
    print(f"wrote {options.out / 'result.json'}")


def command_of(options: argparse.Namespace) -> str:
    """The command with every option that has a value, defaults included, so that it says all even when a default changes."""
    words = ["hybridbooth", "evaluate"]
    for name, value in vars(options).items():
        if callable(value) or value is None or value is False:
            continue
        values = [] if value is True else value if isinstance(value, list) else [value]
        if value != []:
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


def _inputs(text: str) -> int | None:
    if text == "all":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise UserError(f"expected --inputs as a number of photos or all, found {text!r}") from error


def _encoders(options: argparse.Namespace) -> Encoders:
    if options.untrained:
        from ..evaluation.untrained import untrained_encoders

        return untrained_encoders()
    from ..evaluation.encoders import load_encoders

    return load_encoders(options.encoders[0] if options.encoders else None, options.download)


def _figure(figure: dict[str, Any]) -> str:
    if figure["mean"] is None:
        return "none"
    low_high = f" ({figure['ci95'][0]:.3f} to {figure['ci95'][1]:.3f})" if figure["ci95"] else ""
    return f"{figure['mean']:.3f}{low_high}, {figure['subjects']} subjects"
