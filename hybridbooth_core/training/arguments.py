"""The words of a command line as a training: a preset, a stored configuration or one that goes on, changed by flags.

tyro makes a flag of every setting of `config.TrainConfig`, and its help out of what is said there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_origin

from ..errors import UserError
from .config import OLD_DTYPES, TrainConfig, from_json
from .presets import Presets, preset
from .trainer import CONFIG

PROGRAM = "hybridbooth train-probe"
RESUME, HELP = "--resume", ("-h", "--help")
_OLD_OPTIONS = {"--base": "--model", "--precision": "--dtype"}
USAGE = f"""\
usage: {PROGRAM} CONFIG [options]
       {PROGRAM} {RESUME} RUN [options]

Trains a probe and writes all that comes of it into one folder (--out): checkpoints, the curve, images to look at. Stop it at any time;
with {RESUME} it goes on. See docs/training.md.

CONFIG is a .json file in the form of a run folder's {CONFIG}, or one of:
"""
MORE = f"""
Every setting is an option, and `{PROGRAM} CONFIG --help` lists them all with what they are in that CONFIG. Often wanted:
  --model DIR --data.shards DIR   the model (a diffusers folder) and the images (by `hybridbooth prepare`)
  --out DIR                       the folder of the run
  --dry-run                       load everything, say what memory and time it takes, write nothing

examples:
  {PROGRAM} miniature --out trial --steps 200
  {PROGRAM} sd15-consumer --model sd15 --data.shards shards --dry-run --price 0.5
  {PROGRAM} {RESUME} probe_sd15_consumer
  accelerate launch --config_file docs/accelerate_ddp.yaml --num_processes 4 -m hybridbooth_core.training sd15 --model sd15 ...
"""


@dataclass(frozen=True)
class Request:
    """What is to be done: train, from the beginning or on from a checkpoint in `config.out`, or only try."""

    config: TrainConfig
    resume: bool
    dry_run: bool


def parsed(arguments: Sequence[str], presets: Presets, speak: bool = True) -> Request:
    """The request of a command line, the program's name left out. Help ends the program with 0, an option that is none with 2.

    Args:
        speak: False prints nothing before it ends the program.
    Raises:
        UserError: there is no such configuration, or tyro is not installed.
    """
    if not arguments or arguments[0] in HELP:
        if speak:
            print(overview(presets))
        raise SystemExit(0 if arguments else 2)
    first, rest = arguments[0], new_names(arguments[1:])
    resume = first == RESUME or first.startswith(f"{RESUME}=")
    if resume:
        name = first.removeprefix(RESUME).removeprefix("=") or (rest.pop(0) if rest else "")
        config, program = resumed(name), f"{PROGRAM} {RESUME} {name}"
    else:
        config, program = named(first, presets), f"{PROGRAM} {first}"
    if any(word == RESUME or word.startswith(f"{RESUME}=") for word in rest):
        raise UserError(f"{RESUME} takes the configuration of its folder; write {RESUME} RUN first and leave {first} out")
    changed, dry_run = _overridden(config, rest, program, speak)
    if resume and changed.out != config.out:
        raise UserError(f"{RESUME} goes on in its own folder {config.out}; leave --out out, or copy the folder first")
    return Request(changed, resume, dry_run)


def new_names(words: Sequence[str]) -> list[str]:
    """Words of a command line with options and values of 0.1 under their present names."""
    renamed = []
    for word in words:
        name, equals, value = word.partition("=")
        name = _OLD_OPTIONS.get(name, name)
        if name == "--dtype":
            renamed.append(name + equals + OLD_DTYPES.get(value, value))
        else:
            renamed.append(OLD_DTYPES.get(word, word) if renamed and renamed[-1] == "--dtype" else name + equals + value)
    return renamed


def overview(presets: Presets) -> str:
    """What is there to choose from."""
    names = "\n".join(f"  {name:<14} {about}" for name, (about, _) in presets.items())
    return f"{USAGE}{names}\n{MORE}"


def named(name: str, presets: Presets) -> TrainConfig:
    """The preset of a name, or the configuration in a .json file."""
    if name.startswith("-"):
        raise UserError(f"expected CONFIG before all options, found {name[:80]}; begin with one of {', '.join(presets)}, or a .json file")
    return _stored(Path(name)) if name.lower().endswith(".json") else preset(name, presets)


def resumed(folder: str) -> TrainConfig:
    """The configuration that a run folder was begun with; the folder may have been moved since."""
    if not folder or folder.startswith("-"):
        raise UserError(
            f"expected the folder of a training after {RESUME}, found {folder or 'nothing'}; give the --out that it was begun with"
        )
    if not (Path(folder) / CONFIG).is_file():
        raise UserError(f"{folder} holds no training (it has no {CONFIG}); give the --out of one, or begin one with {PROGRAM} CONFIG")
    return replace(_stored(Path(folder) / CONFIG), out=Path(folder))


def _stored(path: Path) -> TrainConfig:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the configuration {path} cannot be read ({error.strerror}); check its name") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"the configuration {path} is damaged (it is no JSON); copy it again, or take a preset") from error
    return from_json(table)


def _overridden(config: TrainConfig, words: Sequence[str], program: str, speak: bool) -> tuple[TrainConfig, bool]:
    """A configuration with what flags change of it, and whether it is only to be tried."""
    try:
        import tyro
        from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec
    except ImportError as error:
        raise UserError('training needs the package tyro; run: pip install "hybridbooth[train]"') from error

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def table(info: Any) -> PrimitiveConstructorSpec | None:
        """A table, as JSON."""
        if get_origin(info.type) is not dict:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="JSON",
            instance_from_str=lambda given: json.loads(given[0]),
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [json.dumps(value)],
        )

    try_it = tyro.conf.arg(help="Load everything, say what memory, time and money it takes, and write nothing.")
    dry_run = ("dry_run", Annotated[bool, try_it, tyro.conf.FlagCreatePairsOff], False)
    options = make_dataclass("Options", [("config", Annotated[TrainConfig, tyro.conf.arg(name="")]), dry_run])
    made = tyro.cli(
        options,
        default=options(config),
        args=words,
        prog=program,
        description="Trains a probe; every setting is an option. See docs/training.md.",
        registry=registry,
        console_outputs=speak,
    )
    return made.config, made.dry_run


def rank() -> int:
    """Which of the processes that a launcher has started this is, before anything is set up."""
    number = os.environ.get("RANK", "0")
    return int(number) if number.isdecimal() else 0
