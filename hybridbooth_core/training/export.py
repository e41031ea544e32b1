"""Exports a run: the learner's file, its model card and its sha256."""

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
from ..probe.hypernetwork import Hypernetwork, HypernetworkConfig
from ..probe.instant import InstantBooth, InstantConfig
from ..probe.learner import Learner
from ..probe.probe import Probe, ProbeConfig
from .card import model_card
from .checkpoint import load_checkpoint
from .config import TrainConfig, from_json
from .metrics import read_curve

LEARNERS: dict[str, tuple[type[Learner], Callable[[dict[str, Any]], Any]]] = {
    Probe.kind: (Probe, ProbeConfig.from_table),
    Hypernetwork.kind: (Hypernetwork, HypernetworkConfig.from_table),
    InstantBooth.kind: (InstantBooth, InstantConfig.from_table),
}


def export_probe(run: Path, out: Path, overwrite: bool = False, hub_model: Callable[[str], str] = lambda model: "") -> Sequence[Path]:
    """Writes the averaged weights of a run's newest checkpoint in float16, with a model card and a hash.

    Args:
        out: FILE.safetensors; the card is FILE.md, the hash FILE.safetensors.sha256 (for `sha256sum --check`).
        hub_model: from `TrainConfig.model` to the model's id on hubs, for the card; "" if it has none.
    Returns:
        The three files. The network is written last.
    Raises:
        UserError: the folder contains no training, a file exists already, or the files cannot be written; no partial file remains.
    """
    files = check_export(out, overwrite)
    learner, config, step = trained_learner(run)
    partial = out.with_name(f".{out.name}.partial")  # hashed before it is renamed
    try:
        learner.save(partial)
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()
        size = partial.stat().st_size
        card = model_card(out.name, digest, size, learner, config, step, read_curve(run), hub_model(config.model))
        write_atomic(files[1], card, durable=True)
        write_atomic(files[2], f"{digest}  {out.name}\n", durable=True)
        move(partial, out, durable=True)
    except OSError as error:
        raise UserError(f"{out.parent} cannot be written ({error.strerror or error}); choose another place or free some space") from error
    finally:
        partial.unlink(missing_ok=True)
    return files


def check_export(out: Path, overwrite: bool = False) -> tuple[Path, Path, Path]:
    """The files that an export to `out` writes: the network, its card and its hash. UserError if one exists, unless `overwrite`."""
    if out.suffix != ".safetensors":
        raise UserError(f"expected a file that ends in .safetensors, found {out.name}; choose another --out")
    files = (out, out.with_suffix(".md"), out.with_name(f"{out.name}.sha256"))
    existing = [path.name for path in files if path.exists()]
    if existing and not overwrite:
        raise UserError(f"{', '.join(existing)} would be replaced in {out.parent}; choose another --out, or add --overwrite")
    return files


def trained_learner(run: Path) -> tuple[Learner, TrainConfig, int]:
    """The averaged network of a run's newest checkpoint, the run's configuration, and the checkpoint's step.

    Raises:
        UserError: the folder or its checkpoints do not exist or cannot be read.
    """
    if not run.is_dir():
        raise UserError(f"expected the folder of a training, found none at {run}; give the --out of `hybridbooth train-probe`")
    state = load_checkpoint(run)
    if state is None:
        raise UserError(f"expected checkpoints of a training in {run}, found none; train first, or give the --out of the training")
    if "probe_config" not in state:
        raise UserError(f"the checkpoints in {run} do not describe their network; finish the training with --resume in this version")
    config = from_json(json.loads(state["config"]))
    kind = state.get("learner", Probe.kind)
    learner = _build(run, kind, json.loads(state["probe_config"]), state["average"], progress(config, state["step"]))
    return learner, config, state["step"]


def progress(config: TrainConfig, step: int) -> str:
    """Steps done and planned, for the file's `trained_on`."""
    return f"{step} of {config.steps} steps of {config.batch}"


def _build(run: Path, kind: str, stored: Any, weights: dict[str, torch.Tensor], done: str) -> Learner:
    try:
        network, from_table = LEARNERS[kind]
        config = from_table(stored)
        with torch.device("meta"):
            learner = network(replace(config, trained_on=f"{config.trained_on}; {done}"))  # type: ignore[call-arg]
        learner.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    except (TypeError, RuntimeError, AttributeError, KeyError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"the checkpoint in {run} has no complete {kind} ({reason}); continue with --resume to the next one") from error
    return learner.eval().requires_grad_(False)
