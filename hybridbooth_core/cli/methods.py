"""The methods that `hybridbooth personalize` offers, and their options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from ..encoders.features import Reference
    from ..methods.artefact import Trained
    from ..miniature.bundle import Miniature


@dataclass(frozen=True)
class Defaults:
    """What suits the miniature, a two-hundredth of the size of the models that the published constants are for.

    Found on three tune creatures: more steps or higher rates raise the likeness further but lose the prompt.
    """

    steps: int
    rate: float | None = None
    batch: int | None = None
    prior_images: int | None = None


METHODS = {
    "hybridbooth": Defaults(5),
    "probe_free": Defaults(30),
    "regression": Defaults(0),
    "textual_inversion": Defaults(100, 1e-2),
    "dreambooth": Defaults(200, 2e-4, 4, 32),
    "dreambooth_lora": Defaults(100, 1e-3, 4, 32),
    "custom_diffusion": Defaults(50, 1e-3, 4, 32),
}
REFINED = ("hybridbooth", "probe_free")
"""Those that end in a refinement of words and have its options; the others train."""


def add_options(command: argparse.ArgumentParser) -> None:
    """--method, and the options that only some methods have; which is which, `run_method` knows."""
    command.add_argument(
        "--method",
        choices=list(METHODS),
        default="hybridbooth",
        help="hybridbooth (default); probe_free: words that CLIP finds, then more steps than from a probe; regression: the probe's guess "
        "alone; textual_inversion: a word by gradient steps alone; dreambooth: all weights of the denoiser; dreambooth_lora: a LoRA of it; "
        "custom_diffusion: a word and the cross-attentions' K and V",
    )
    steps = ", ".join(f"{name} {defaults.steps}" for name, defaults in METHODS.items() if defaults.steps)
    command.add_argument("--steps", type=int, help=f"training steps (default: {steps})")
    command.add_argument("--learning-rate", type=float, metavar="R", help="of the trained methods (default: one that suits the miniature)")
    command.add_argument(
        "--tokens", "--words", dest="num_tokens", type=int, metavar="N", help="of textual_inversion (default 1) and probe_free (default 5)"
    )
    command.add_argument(
        "--inversion-steps",
        type=int,
        metavar="N",
        help="of probe_free: steps in CLIP's space before the others (default: what suits the miniature)",
    )
    command.add_argument("--rank", type=int, metavar="R", help="of dreambooth_lora (default 4)")
    command.add_argument("--token", metavar="WORD", help="of dreambooth and custom_diffusion: stands before the noun (default: a rare one)")
    command.add_argument(
        "--prior-images",
        "--prior-images",
        "--prior-pictures",
        dest="prior_images",
        type=int,
        metavar="N",
        help="of the same: class images that hold the class (default 32)",
    )
    command.add_argument("--prior-weight", type=float, metavar="W", help="of the same: weight of the class images' loss (default 1)")


def chosen_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of single methods that were given, as `run_method` takes them.

    Raises:
        UserError: options that mean nothing together. One that the method does not have is told by `run_method`.
    """
    wrong, right = ("learning_rate", "--effective-step") if options.method in REFINED else ("step_size", "--learning-rate")
    if getattr(options, wrong) is not None:
        raise UserError(f"the method {options.method} has no --{wrong.replace('_', '-')}; leave it out, or give {right}")
    if options.prior_weight == 0 and options.prior_images is not None:
        raise UserError("with --prior-weight 0 no class image is drawn, so --prior-images means nothing; leave one of them out")
    names = ("mode", "num_tokens", "inversion_steps", "rank", "token", "prior_images", "prior_weight")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def train(options: argparse.Namespace, world: Miniature, ref: Reference) -> Trained:
    """Run any method that trains, with bars that tell how far it is."""
    from tqdm import tqdm

    from ..encoders.features import extract_features
    from ..methods.prior_images import Prior
    from ..methods.registry import METHODS as FAMILY
    from ..methods.registry import run_method
    from ..models.adapter import class_embedding

    model, method, defaults = world.model, FAMILY[options.method], METHODS[options.method]
    chosen, prior = chosen_options(options), Prior(model) if method.prior else None
    class_embedding(model, options.class_noun)  # refused before anything is drawn
    if prior is not None:
        chosen = {"batch": defaults.batch, "prior_images": defaults.prior_images, **chosen}
        if chosen.get("prior_weight") != 0:
            with tqdm(total=chosen["prior_images"], desc="drawing the class") as bar:

                def on_images(there: int, count: int) -> None:
                    bar.update(there - bar.n)

                prior.latents(options.class_noun, bar.total, on_images)
    steps = steps_of(options)
    with tqdm(total=steps, desc="training", disable=steps == 0) as bar:

        def on_step(done: int, total: int, loss: float) -> None:
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}")

        return run_method(
            options.method,
            model,
            ref,
            options.class_noun,
            steps=steps,
            rate=defaults.rate if options.learning_rate is None else options.learning_rate,
            seed=options.seed,
            probe=world.probe if method.probe else None,
            features=extract_features(model, world.clip, world.dino, ref) if method.probe else None,
            prior=prior,
            on_step=on_step,
            **chosen,
        )


def steps_of(options: argparse.Namespace) -> int:
    """The steps asked for, or those that suit the method."""
    return METHODS[options.method].steps if options.steps is None else options.steps
