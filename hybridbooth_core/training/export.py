"""From a run's folder to what is published: the probe's file, its model card, and the hash of its bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..files.atomic import move, write_atomic
from ..probe.probe import Probe, ProbeConfig
from .card import model_card
from .checkpoint import load_checkpoint
from .config import TrainConfig, from_json
from .metrics import read_curve


def export_probe(run: Path, out: Path, overwrite: bool = False, hub_model: Callable[[str], str] = lambda model: "") -> Sequence[Path]:
    """Write the averaged weights of a run's newest checkpoint as a probe, float16, with a model card and a hash beside it.

    Args:
        out: FILE.safetensors; the card is FILE.md, the hash FILE.safetensors.sha256 (as `sha256sum --check` reads it).
        hub_model: the id of `TrainConfig.model` on model hubs, for the card; "" where it has none.
    Returns:
        The three files. The probe's is written last, so that what it is said to be is there before it.
    Raises:
        UserError: the folder holds no training, a file is there already, or the place cannot be written; nothing half-written remains.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"expected a file that ends in .safetensors, found {out.name}; choose another --out")
    files = (out, out.with_suffix(".md"), out.with_name(f"{out.name}.sha256"))
    there = [path.name for path in files if path.exists()]
    if there and not overwrite:
        raise UserError(f"{', '.join(there)} would be replaced in {out.parent}; choose another --out, or add --overwrite")
    probe, config, step = trained_probe(run)
    partial = out.with_name(f".{out.name}.partial")  # hashed before it has its name
    try:
        probe.save(partial)
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()
        size = partial.stat().st_size
        card = model_card(out.name, digest, size, probe, config, step, read_curve(run), hub_model(config.model))
        write_atomic(files[1], card, durable=True)
        write_atomic(files[2], f"{digest}  {out.name}\n", durable=True)
        move(partial, out, durable=True)
    except OSError as error:
        raise UserError(f"{out.parent} cannot be written ({error.strerror or error}); choose another place or free some space") from error
    finally:
        partial.unlink(missing_ok=True)
    return files


def trained_probe(run: Path) -> tuple[Probe, TrainConfig, int]:
    """The averaged probe of a run's newest checkpoint, its configuration, and the steps it has gone.

    Raises:
        UserError: there is no such folder, no checkpoint in it, or it cannot be read.
    """
    if not run.is_dir():
        raise UserError(f"expected the folder of a training, found none at {run}; give the --out of `hybridbooth train-probe`")
    state = load_checkpoint(run)
    if state is None:
        raise UserError(f"expected checkpoints of a training in {run}, found none; train first, or give the --out of the training")
    if "probe_config" not in state:
        raise UserError(f"the checkpoints in {run} do not say what probe they hold; go on with --resume to their end with this version")
    config = from_json(json.loads(state["config"]))
    probe = _built(run, json.loads(state["probe_config"]), state["average"], told(config, state["step"]))
    return probe, config, state["step"]


def told(config: TrainConfig, step: int) -> str:
    """How far a training has come, for the probe's `trained_on`."""
    return f"{step} of {config.steps} steps of {config.batch}"


def _built(run: Path, made: Any, weights: dict[str, torch.Tensor], progress: str) -> Probe:
    try:
        settings = ProbeConfig(**made)
        with torch.device("meta"):
            probe = Probe(replace(settings, trained_on=f"{settings.trained_on}; {progress}"))
        probe.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    except (TypeError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"the checkpoint in {run} holds no whole probe ({reason}); go on with --resume to the next checkpoint") from error
    return probe.eval().requires_grad_(False)
