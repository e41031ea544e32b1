"""The trainer with a hypernetwork and an adapter: it learns, resumes bit for bit, checkpoints blocks, exports, draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hybridbooth_core.cli import main
from hybridbooth_core.errors import UserError
from hybridbooth_core.miniature.training.learners import CONFIGS
from hybridbooth_core.probe.hypernetwork import Hypernetwork
from hybridbooth_core.probe.instant import InstantBooth
from hybridbooth_core.training.config import HypernetworkShape, LogConfig
from hybridbooth_core.training.export import export_probe
from hybridbooth_core.training.memory_estimate import estimate_memory
from hybridbooth_core.training.sample_grids import grid
from hybridbooth_core.training.trainer import Trainer

pytest.importorskip("diffusers")

KINDS = ("hypernetwork", "instantbooth")
CLASSES = {"hypernetwork": Hypernetwork, "instantbooth": InstantBooth}
LOG = LogConfig(log_every=1, validate_every=4, validation_samples=2, save_every=2, grid_every=0)


@pytest.fixture(scope="module")
def prepared():
    """A function: a configuration to its context, an untrained learner and callbacks."""
    from hybridbooth_core.bases.training import training_bases

    bases = training_bases()
    return lambda config: bases.prepare(config, torch.device("cpu"))


def brief(kind: str, out: Path, **changes):
    shape = HypernetworkShape(inner=32, heads=2, subspace=(8, 4), targets="all", token="picture")
    return replace(CONFIGS[kind], out=out, steps=4, batch=2, micro_batch=2, hypernetwork=shape, log=LOG, **changes)


def trained(prepared, config, resume: bool = False):
    context, learner, callbacks = prepared(config)
    return Trainer(config, context, learner, replace(callbacks, check=None)).run(resume)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_and_resume_is_bit_equal(kind, prepared, tmp_path):
    config = brief(kind, tmp_path / "a")
    expected = trained(prepared, config).state_dict()
    (tmp_path / "a" / "step-00000004.ckpt").unlink()
    again = trained(prepared, config, resume=True).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in expected.items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_one_batch_falls(kind, prepared, tmp_path):
    """Over the same rows with the same noise, far faster than a training would."""
    config = brief(kind, tmp_path / "a")
    config = replace(config, steps=40, optim=replace(config.optim, warmup=1, lr=1e-2, muon_lr=1e-2))
    context, learner, _ = prepared(config)
    trainer = Trainer(config, context, learner)
    batch = next(context.source.batches(0, trainer.shard))

    class Same:
        waited = 0.0

        def next(self):
            return batch

    found = []
    for _ in range(25):
        trainer.step = 0  # the noise of step 0 every time
        found.append(trainer.one_step(Same())["denoising"])  # type: ignore[arg-type]
    assert found[-1] < 0.97 * found[0], found


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed_blocks_give_the_same_step(kind, prepared, tmp_path):
    """Hooks are open while the blocks run again in the backward pass."""
    losses = []
    for checkpointing in (False, True):
        config = brief(kind, tmp_path / str(checkpointing), checkpointing=checkpointing)
        context, learner, _ = prepared(config)
        if kind == "instantbooth":
            for adapter in learner.adapters:
                torch.nn.init.constant_(adapter.gate, 0.05)
        trainer = Trainer(config, context, learner)
        torch.manual_seed(3)
        batches = context.source.batches(0, trainer.shard)

        class One:
            waited = 0.0

            def __init__(self, batches):
                self.next = lambda: next(batches)

        row = trainer.one_step(One(batches))  # type: ignore[arg-type]
        losses.append((row["loss"], row["grad_norm"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_exported_with_its_card_and_loads(kind, prepared, tmp_path):
    learner = trained(prepared, brief(kind, tmp_path / "run"))
    out = tmp_path / "mine.safetensors"
    export_probe(tmp_path / "run", out)
    found = CLASSES[kind].load(out)
    assert found.config == replace(learner.config, trained_on=f"{learner.config.trained_on}; 4 of 4 steps of 2")
    for name, tensor in learner.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor.half().float()), name
    card = out.with_suffix(".md").read_text()
    assert {"hypernetwork": "Load Hypernetwork", "instantbooth": "Load Instant Adapter"}[kind] in card
    assert f"{CLASSES[kind].__name__}.load" in card and "token embeddings from one image" not in card


@pytest.mark.parametrize("kind", KINDS)
def test_grids_and_estimates_know_them(kind, prepared, tmp_path):
    config = replace(brief(kind, tmp_path / "run"), log=replace(LOG, grid_steps=2, grid_subjects=2))
    context, learner, callbacks = prepared(config)
    grid(config, context, callbacks.grid_content(2))(learner.eval(), tmp_path / "step-00000002.png")
    assert (tmp_path / "step-00000002.png").stat().st_size > 10_000
    assert estimate_memory(context, learner, config).activations > 1e6


def test_a_checkpoint_says_which_learner_it_is_of(prepared, tmp_path, refuses):
    config = brief("hypernetwork", tmp_path / "run")
    trained(prepared, config)
    other = replace(brief("instantbooth", tmp_path / "run"), steps=6)
    assert "learner" in refuses(trained, prepared, other, True)


@pytest.mark.parametrize("command", ["train-hypernetwork", "train-adapter"])
def test_the_commands_list_their_presets_and_run(command, tmp_path, capsys):
    pytest.importorskip("tyro")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out
    assert command in told and "sd15-consumer" not in told and f"miniature-{command.removeprefix('train-')}" in told
    preset = f"miniature-{command.removeprefix('train-')}"
    small = ["--steps", "2", "--batch", "2", "--micro-batch", "2", "--log.validation-samples", "2"]
    assert main([command, preset, "--out", str(tmp_path / "run"), *small]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["learner"] in KINDS


def test_sizes_that_do_not_fit_are_one_sentence(prepared, tmp_path, refuses):
    shape = HypernetworkShape(inner=32, heads=2, subspace=(100, 50), token="picture")
    config = replace(brief("hypernetwork", tmp_path), hypernetwork=shape)
    assert "at most a layer's" in refuses(prepared, config)
    with pytest.raises(UserError, match="heads"):
        prepared(replace(brief("instantbooth", tmp_path), adapter=replace(config.adapter, heads=7)))
