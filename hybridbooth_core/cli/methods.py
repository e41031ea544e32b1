"""The options of the methods, read from their registry: a new method brings its own."""

from __future__ import annotations

import argparse
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..api import AUTO
from ..methods.registry import ALIASES, METHODS

HELP = {
    "learning_rate": "of a method that trains",
    "step_size": "of a method that refines: share of an embedding's norm, or lambda x learning rate",
    "mode": "words, which auto stands for: gradient steps on the embeddings; residual: gradient steps on the probe's cross-attentions, the "
    "paper's form",
    "anchor": "pull back to the probe's prediction (default: 1, or 0 for a subject unlike those of the probe's training)",
    "caption": 'what else the photo shows, so that the embeddings need not learn it: "on a sofa", or "a photo of <subject> on a sofa"; '
    "lines for several images",
    "num_tokens": "token embeddings of the subject",
    "inversion_steps": "steps in CLIP's space before the others",
    "rank": "of the LoRA",
    "token": "stands before the class noun (default: a rare one)",
    "prior_images": "images of the class, which the model draws itself",
    "prior_weight": "weight of the loss on the class images; 0 leaves them out",
    "batch": "rows of a step",
}
OLD_FLAGS = {"num_tokens": ["--words"], "step_size": ["--effective-step"], "prior_images": ["--prior-pictures"]}
OWN = ("learning_rate", "step_size")


def add_options(command: argparse.ArgumentParser) -> None:
    """--method, --steps, and one option for every field of a method's configuration."""
    lines = "; ".join(f"{name}: {method.summary}" for name, method in METHODS.items())
    command.add_argument(
        "--method",
        choices=[AUTO, *METHODS, *ALIASES],
        default=AUTO,
        metavar="NAME",
        help=f"{lines}; {AUTO} (default): hybridbooth where there is a probe, else probe_free where CLIP is found, else from_noun",
    )
    command.add_argument("--steps", type=int, help="of the method (default: the method's own for this model)")
    group = command.add_argument_group("options of single methods")
    for name in dict.fromkeys(name for method in METHODS.values() for name in (*OWN, *method.options) if name in method.fields):
        having = [method for method in METHODS.values() if name in method.fields and name not in method.fixed]
        kind = _kind(having[0].config, name)
        flags = [f"--{name.replace('_', '-')}", *OLD_FLAGS.get(name, [])]
        owners = ", ".join(method.name for method in having)
        about = f"{HELP[name]} ({owners})" if name in HELP else f"of {owners}"
        group.add_argument(*flags, dest=name, metavar="N" if kind is int else "X", help=about, **_parsing(kind))


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """The options of single methods that were given. Whether the method has them, the method says itself."""
    names = {name for method in METHODS.values() for name in (*OWN, *method.options)}
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}


def _kind(config: type, name: str) -> Any:
    """The type of a field: int, float, str, or tuple for two numbers."""
    hint = get_type_hints(config)[name]
    inner = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) is tuple:
        return tuple
    if get_origin(hint) is Literal:
        return str
    return inner[0] if inner else hint


def _parsing(kind: Any) -> dict[str, Any]:
    return {"type": float, "nargs": 2} if kind is tuple else {"type": kind}
