"""Trains all networks of the miniature world from scratch: `hybridbooth miniature train`."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ... import __version__
from ...errors import UserError
from ...files.atomic import write_atomic
from ...files.safetensors import write_tensors
from ...models.diffusers_adapter import DiffusersModel
from ...probe.probe import Probe
from ...training.config import TrainConfig, to_json
from ..bundle import WEIGHTS, load_miniature, manifest
from ..gates import measure_gates, passes
from .base import train_base
from .clip_space import train_clip_space
from .learners import CONFIGS, Kind, new_learner, train_learner
from .loop import Schedule
from .probe import CONFIG, train_probe
from .readers import train_autoencoder, train_clip_encoder, train_identity_encoder, train_judge

log = logging.getLogger("hybridbooth")

SCHEDULES = {
    "autoencoder": Schedule(6000, 16, muon_lr=2e-3),
    "judge": Schedule(3500, 64, muon_lr=2e-3),
    "dino": Schedule(1600, 48, muon_lr=2e-3),
    "clip": Schedule(1600, 64, muon_lr=2e-3),
    "held_out": Schedule(1200, 48, muon_lr=2e-3),
    "held_out_clip": Schedule(1600, 64, muon_lr=2e-3),
    "base": Schedule(8000, 32, ema=0.998),
    "clip_space": Schedule(800, 128, muon_lr=2e-2, adam_lr=5e-3, ema=0.99),
}
CUDA_FACTOR = 4  # on a GPU the schedules are longer


def schedules(device: str, only_steps: int | None = None) -> dict[str, Schedule]:
    """The schedule of each stage on a device; `only_steps` shortens every stage, for a trial run."""
    factor = CUDA_FACTOR if device == "cuda" else 1
    steps = {name: only_steps or s.steps * factor for name, s in SCHEDULES.items()}
    return {name: replace(s, steps=steps[name]) for name, s in SCHEDULES.items()}


def probe_config(device: str, seed: int, only_steps: int | None = None) -> TrainConfig:
    """The configuration of the probe, which is trained as by `hybridbooth train-probe`."""
    factor = CUDA_FACTOR if device == "cuda" else 1
    return replace(CONFIG, device=device, seed=seed, steps=only_steps or CONFIG.steps * factor)


def make_world(work: Path, out: Path = WEIGHTS, seed: int = 0, only_steps: int | None = None) -> dict:
    """Trains every stage that is not complete in `work`, exports float16 weights to `out`, and measures the gates on them.

    Stages resume where they stopped. Returns the manifest, which is also written to `out`.

    Raises:
        UserError: `out` does not exist or cannot be written.
    """
    if not out.is_dir():
        raise UserError(f"the folder {out} does not exist; create it, or choose another one")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plan = schedules(device, only_steps)
    before = torch.get_default_device()
    torch.set_default_device(device)
    try:
        autoencoder = train_autoencoder(plan["autoencoder"], work, seed)
        judge = train_judge(plan["judge"], work, seed)
        dino = train_identity_encoder("dino", plan["dino"], work, seed)
        held_out = train_identity_encoder("held_out", plan["held_out"], work, seed)
        clip, _ = train_clip_encoder("clip", plan["clip"], work, seed)
        held_out_clip, held_out_text = train_clip_encoder("held_out_clip", plan["held_out_clip"], work, seed)
        model = train_base(plan["base"], work, autoencoder, judge, seed)
        heads = train_clip_space(plan["clip_space"], work, model, clip, seed)
        probe = train_probe(probe_config(device, seed, only_steps), work / "probe", model, clip, dino, judge)
    finally:
        torch.set_default_device(before)

    readers: dict[str, nn.Module] = {
        "clip": clip,
        "dino": dino,
        "held_out": held_out,
        "held_out_clip": held_out_clip,
        "held_out_text": held_out_text,
        "judge": judge,
    }
    export(out, autoencoder, readers, model, probe, heads)
    make_learners(work, out, seed, only_steps)
    stages = {name: asdict(schedule) for name, schedule in plan.items()} | {"probe": to_json(probe_config(device, seed, only_steps))}
    stages |= {kind: to_json(learner_config(kind, seed, only_steps)) for kind in CONFIGS}
    return write_manifest(out, stages, seed, device, identities=4 if only_steps else 64)


def renew_probe(work: Path, out: Path = WEIGHTS, seed: int = 0, only_steps: int | None = None) -> dict:
    """Retrains the probe for the world in `out`, and replaces it there.

    Resumes where it stopped. Returns the new manifest.

    Raises:
        UserError: `out` does not contain a complete world.
    """
    world = load_miniature(out)
    config = probe_config("cpu", seed, only_steps)
    probe = train_probe(config, work / "probe", world.model, world.clip, world.dino, world.judge)
    probe.save(out / "probe.safetensors")
    return write_manifest(out, manifest(out)["stages"] | {"probe": to_json(config)}, seed, "cpu", identities=4 if only_steps else 64)


def learner_config(kind: Kind, seed: int, only_steps: int | None = None) -> TrainConfig:
    """The configuration of the hypernetwork or the adapter, which are trained on a CPU as by `train-hypernetwork` and `train-adapter`."""
    return replace(CONFIGS[kind], seed=seed, steps=only_steps or CONFIGS[kind].steps)


def make_learners(work: Path, out: Path = WEIGHTS, seed: int = 0, only_steps: int | None = None) -> None:
    """Trains the hypernetwork and the adapter for the world in `out`, and writes them there. Resumes where it stopped."""
    world = load_miniature(out)
    for kind in CONFIGS:
        config = replace(learner_config(kind, seed, only_steps), out=work / kind)
        learner = new_learner(kind, world.model, world.clip, world.dino, seed)
        train_learner(learner, config, world).save(out / f"{kind}.safetensors")


def renew_learners(work: Path, out: Path = WEIGHTS, seed: int = 0, only_steps: int | None = None) -> dict:
    """`make_learners`, and the new manifest. UserError: `out` does not contain a complete world."""
    make_learners(work, out, seed, only_steps)
    renewed = {kind: to_json(learner_config(kind, seed, only_steps)) for kind in CONFIGS}
    return write_manifest(out, manifest(out)["stages"] | renewed, seed, "cpu", identities=4 if only_steps else 64)


def export(out: Path, autoencoder: nn.Module, readers: dict[str, nn.Module], model: DiffusersModel, probe: Probe, heads: nn.Module) -> None:
    """Writes the five weight files, float16."""
    text = getattr(model.text_encoder, "text_model", model.text_encoder)
    files: dict[str, dict[str, nn.Module]] = {
        "autoencoder": {"": autoencoder},
        "base": {"unet": model.unet, "text_model": text},
        "readers": readers,
        "clip_space": {"": heads},
    }
    for name, parts in files.items():
        write_tensors(out / f"{name}.safetensors", _half(parts), {"format": f"hybridbooth.miniature.{name}"})
    probe.save(out / "probe.safetensors")


def write_manifest(out: Path, stages: dict[str, dict], seed: int, device: str, identities: int) -> dict:
    """Measures the gates on the float16 weights and writes `manifest.json`: sizes, schedules, results."""
    gates = measure_gates(load_miniature(out), identities)
    written = {
        "made_by": f"hybridbooth {__version__}: hybridbooth miniature train --seed {seed}",
        "device": device,
        "bytes": {path.name: path.stat().st_size for path in sorted(out.glob("*.safetensors"))},
        "stages": stages,
        "gates": gates,
        "gates_passed": passes(gates),
    }
    write_atomic(out / "manifest.json", json.dumps(written, indent=2) + "\n")
    return written


def _half(parts: dict[str, nn.Module]) -> dict[str, Tensor]:
    """All floating-point tensors of several modules as float16, named "<part>.<name>", or "<name>" for the part ""."""
    return {
        f"{part}.{name}" if part else name: tensor.half()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }
