"""Command line of `train-probe`, `train-hypernetwork` and `train-adapter`.

A preset, a stored configuration or a run to resume, with options that override single settings.

tyro derives the options and their help from the fields and docstrings of `config.TrainConfig`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_origin

from ..errors import UserError
from .config import OLD_DTYPES, LearnerKind, TrainConfig, from_json
from .presets import Presets, preset
from .trainer import CONFIG

PROGRAMS = {
    "probe": "hybridbooth train-probe",
    "hypernetwork": "hybridbooth train-hypernetwork",
    "instantbooth": "hybridbooth train-adapter",
}
PROGRAM = PROGRAMS["probe"]
RESUME, HELP = "--resume", ("-h", "--help")
_OLD_OPTIONS = {"--base": "--model", "--precision": "--dtype"}
USAGE = f"""\
usage: {{program}} CONFIG [options]
       {{program}} {RESUME} RUN [options]

Trains {{what}} and writes checkpoints, the training curve and sample grids to one folder (--out). Stop it at any time and continue with
{RESUME}. See docs/training.md.

CONFIG is a .json file (like {CONFIG} in a run folder), or one of:
"""
MORE = f"""
Every setting is an option; `{{program}} CONFIG --help` lists them with their values in CONFIG. The most common:
  --model DIR --data.shards DIR   the base model and the training images (made by `hybridbooth prepare`)
  --out DIR                       the folder of the run
  --dry-run                       load everything, report memory and time, write nothing

examples:
  {{program}} {{small}} --out trial --steps 200
  {{program}} {{large}} --model sd15 --data.shards shards --dry-run --price 0.5
  {{program}} {RESUME} RUN
  accelerate launch --config_file docs/accelerate_ddp.yaml --num_processes 4 -m hybridbooth_core.training {{large}} --model sd15 ...
"""
WHAT = {"probe": "a probe", "hypernetwork": "HyperDreamBooth's hypernetwork", "instantbooth": "InstantBooth's adapter"}
EXAMPLES = {
    "probe": ("miniature", "sd15-consumer"),
    "hypernetwork": ("miniature-hypernetwork", "sd15-hypernetwork"),
    "instantbooth": ("miniature-adapter", "sd15-adapter"),
}


@dataclass(frozen=True)
class Request:
    """A training to start, to resume from the newest checkpoint in `config.out`, or to try for a few steps (`dry_run`)."""

    config: TrainConfig
    resume: bool
    dry_run: bool


def parse(arguments: Sequence[str], presets: Presets, verbose: bool = True, learner: LearnerKind = "probe") -> Request:
    """The request in command-line arguments (without the program's name). `--help` exits with 0, an unknown option with 2.

    Args:
        verbose: False exits without printing anything.
        learner: whose command it is; it decides names in messages and the presets in the overview.
    Raises:
        UserError: the configuration does not exist, or tyro is not installed.
    """
    if not arguments or arguments[0] in HELP:
        if verbose:
            print(overview(presets, learner))
        raise SystemExit(0 if arguments else 2)
    command, first, rest = PROGRAMS[learner], arguments[0], new_names(arguments[1:])
    resume = first == RESUME or first.startswith(f"{RESUME}=")
    if resume:
        name = first.removeprefix(RESUME).removeprefix("=") or (rest.pop(0) if rest else "")
        config, program = stored_config(name), f"{command} {RESUME} {name}"
    else:
        config, program = named_config(first, presets), f"{command} {first}"
    if any(word == RESUME or word.startswith(f"{RESUME}=") for word in rest):
        raise UserError(f"{RESUME} reads the configuration of its folder; write {RESUME} RUN first and leave out {first}")
    changed, dry_run = _override(config, rest, program, verbose)
    if resume and changed.out != config.out:
        raise UserError(f"{RESUME} continues in its own folder {config.out}; leave out --out, or copy the folder first")
    return Request(changed, resume, dry_run)


def new_names(words: Sequence[str]) -> list[str]:
    """Arguments with the options and values of 0.1 replaced by their present names."""
    renamed = []
    for word in words:
        name, equals, value = word.partition("=")
        name = _OLD_OPTIONS.get(name, name)
        if name == "--dtype":
            renamed.append(name + equals + OLD_DTYPES.get(value, value))
        else:
            renamed.append(OLD_DTYPES.get(word, word) if renamed and renamed[-1] == "--dtype" else name + equals + value)
    return renamed


def overview(presets: Presets, learner: LearnerKind = "probe") -> str:
    """The help text without a configuration."""
    own = {name: about for name, (about, made) in presets.items() if made().learner == learner}
    names = "\n".join(f"  {name:<24} {about}" for name, about in own.items())
    small, large = EXAMPLES[learner]
    words = {"program": PROGRAMS[learner], "what": WHAT[learner], "small": small, "large": large}
    return f"{USAGE}{names}\n{MORE}".format(**words)


def named_config(name: str, presets: Presets) -> TrainConfig:
    """The preset with this name, or the configuration in a .json file."""
    if name.startswith("-"):
        raise UserError(f"expected CONFIG before all options, found {name[:80]}; begin with one of {', '.join(presets)}, or a .json file")
    return _read(Path(name)) if name.lower().endswith(".json") else preset(name, presets)


def stored_config(folder: str) -> TrainConfig:
    """The configuration in a run folder, which may have been moved since."""
    if not folder or folder.startswith("-"):
        raise UserError(f"expected the folder of a training after {RESUME}, found {folder or 'nothing'}; give its --out")
    if not (Path(folder) / CONFIG).is_file():
        raise UserError(f"{folder} contains no training (no {CONFIG}); give the --out of one, or start one with {PROGRAM} CONFIG")
    return replace(_read(Path(folder) / CONFIG), out=Path(folder))


def _read(path: Path) -> TrainConfig:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the configuration {path} cannot be read ({error.strerror}); check its name") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"the configuration {path} is damaged (it is not JSON); copy it again, or use a preset") from error
    return from_json(table)


def _override(config: TrainConfig, arguments: Sequence[str], program: str, verbose: bool) -> tuple[TrainConfig, bool]:
    """A configuration with the settings that options override, and the value of `--dry-run`."""
    try:
        import tyro
        from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec
    except ImportError as error:
        raise UserError('training needs the package tyro; run: pip install "hybridbooth[train]"') from error

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def table(info: Any) -> PrimitiveConstructorSpec | None:
        """A dictionary, as JSON."""
        if get_origin(info.type) is not dict:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="JSON",
            instance_from_str=lambda given: json.loads(given[0]),
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [json.dumps(value)],
        )

    about = tyro.conf.arg(help="Load everything, report memory, time and cost, and write nothing.")
    dry_run = ("dry_run", Annotated[bool, about, tyro.conf.FlagCreatePairsOff], False)
    options = make_dataclass("Options", [("config", Annotated[TrainConfig, tyro.conf.arg(name="")]), dry_run])
    parsed = tyro.cli(
        options,
        default=options(config),
        args=arguments,
        prog=program,
        description="Trains what --learner says. See docs/training.md.",
        registry=registry,
        console_outputs=verbose,
    )
    return parsed.config, parsed.dry_run


def rank() -> int:
    """This process's rank, by the launcher's environment variables."""
    number = os.environ.get("RANK", "0")
    return int(number) if number.isdecimal() else 0
