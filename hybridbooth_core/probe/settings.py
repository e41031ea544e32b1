"""Reading and checking the configurations of learners, whose files strangers make."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import UserError
from ..files.safetensors import read_header, read_tensors, write_tensors
from .learner import Learner

MAX_BYTES = 4 << 30
FORMAT_VERSION = "1"
MOST = 65536

L = TypeVar("L", bound=Learner)


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """What every learner's file says: what it reads with, and what it was trained on and for."""

    width: int  # d of the text encoder
    clip: str  # id of the encoder: its repository on the hub, or the miniature's
    clip_width: int
    dino: str
    dino_width: int
    family: str = ""  # of base models, by its ModelSpec name
    base_model: str = ""
    base_fingerprint: str = ""
    trained_on: str = ""
    licence: str = ""

    def check(self, kind: str, numbers: Mapping[str, Any], texts: Mapping[str, Any] | None = None) -> None:
        """UserError if a number is no integer from 1 on, or a text is none."""
        numbers = {"width": self.width, "clip_width": self.clip_width, "dino_width": self.dino_width, **numbers}
        for name, value in numbers.items():
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
                raise UserError(f"expected {name} from 1 to {MOST} in the {kind}'s configuration, found {str(value)[:40]!r}; get it again")
        own = ("clip", "dino", "family", "base_model", "base_fingerprint", "trained_on", "licence")
        for name, value in {**{name: getattr(self, name) for name in own}, **(texts or {})}.items():
            if not isinstance(value, str) or len(value) > 4096:
                raise UserError(f"expected text for {name} in the {kind}'s configuration, found {str(value)[:40]!r}; get the file again")

    def about_base(self) -> list[str]:
        """Lines for the user: base model, training data, licence, encoders."""
        return [
            f"for {self.base_model or 'an unnamed base model'}",
            f"trained on: {self.trained_on or 'not stated'}",
            f"licence: {self.licence or 'not stated'}",
            f"image encoders: {self.clip} and {self.dino}",
        ]


def save_learner(learner: Learner, path: Path, half: bool) -> None:
    """Writes a learner's file, in float16 or float32."""
    tensors = {name: tensor.half() if half else tensor.float() for name, tensor in learner.state_dict().items()}
    metadata = {"format": f"hybridbooth.{learner.kind}", "format_version": FORMAT_VERSION, "config": json.dumps(asdict(learner.config))}
    write_tensors(path, tensors, metadata)


def load_learner(path: Path, kind: type[L], config: Callable[[dict[str, Any]], Any]) -> L:
    """Reads a learner's file; it is in eval mode and frozen.

    Raises:
        UserError: the file is of another kind, is damaged, has a newer format, or its tensors do not match its configuration.
    """
    what = kind.kind
    header, metadata = read_header(path, what, MAX_BYTES)
    if metadata.get("format") != f"hybridbooth.{what}":
        found = metadata.get("format", "")[:40]
        raise UserError(f"{path.name} is no {what} of this program{f', but a {found}' if found else ''}; choose another file")
    if metadata.get("format_version") != FORMAT_VERSION:
        found = metadata.get("format_version", "")[:20]
        raise UserError(f"{path.name} has format {found!r} of a {what}, this program reads {FORMAT_VERSION}; update it")
    try:
        table = json.loads(metadata["config"])
        with torch.device("meta"):
            learner = kind(config(table))  # type: ignore[call-arg]
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"the configuration in {path.name} is damaged ({reason}); get the {what} again") from error
    shapes = {name: list(tensor.shape) for name, tensor in learner.state_dict().items()}
    tensors: dict[str, Tensor] = read_tensors(path, what, header, shapes)
    learner.load_state_dict(tensors, assign=True)
    return learner.eval().requires_grad_(False)
