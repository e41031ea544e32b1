"""The trainer: whatever ends a training, it goes on as if nothing had been, and nothing bad is ever saved."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hybridbooth_core.bases.training import training_bases
from hybridbooth_core.training import checkpoint
from hybridbooth_core.training.callbacks import Callbacks
from hybridbooth_core.training.checkpoint import checkpoints, load_checkpoint
from hybridbooth_core.training.config import LogConfig
from hybridbooth_core.training.metrics import read_curve
from hybridbooth_core.training.trainer import Trainer

FOLDER = Path(__file__).resolve().parent


class Stop(BaseException):
    """As Ctrl-C, or worse."""


def stop(*_, **__):
    raise Stop


def in_a_step(trainer, patch):
    inner = trainer.one_step
    patch.setattr(trainer, "one_step", lambda feed: inner(feed) if trainer.step < 3 else stop())


def in_a_checkpoint(trainer, patch):
    def torn(state, file):
        if trainer.step < 4:
            return save(state, file)
        file.write(b"half of")
        raise Stop

    save = torch.save
    patch.setattr(checkpoint.torch, "save", torn)


@pytest.mark.parametrize("moment", [in_a_step, in_a_checkpoint], ids=lambda function: function.__name__)
def test_interrupted_and_resumed_is_bit_for_bit_the_same(moment, small, config, ends_as, monkeypatch):
    first = small.trainer_of(config)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        moment(first, patch)
        first.run()
    assert first.step < 6 and not list(config.out.glob("*.partial"))
    assert ends_as(small.trainer_of(config).run(resume=True), config.out)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_it_goes_on_bit_for_bit(small, tmp_path):
    """SIGKILL at six moments of one training, one of them by chance, and a disk that is full for a while."""
    alone, folder = tmp_path / "alone", tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, str(FOLDER / "small_training.py"), "killed", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    said = [line["said"] for line in lines if "said" in line]
    ends = {line["moment"]: line for line in lines if "moment" in line}
    assert len(said) == 1 and "File too large" in said[0] and "last checkpoint is step-00000006.ckpt" in said[0], said
    killed = ["before_the_configuration", "half_a_line", "half_a_checkpoint", "before_the_new_name", "after_the_new_name"]
    assert [ends[name]["status"] for name in killed] == [9] * 5, "each of them was killed"
    assert "config.json" not in ends["before_the_configuration"]["files"]
    names = ends["half_a_checkpoint"]["files"]
    assert any(name.startswith(".step-00000002.ckpt.") for name in names) and "step-00000002.ckpt" not in names
    assert not any(name.endswith(".partial") for name in ends["full"]["files"])
    probe = small.trainer_of(replace(small.KILLED, out=folder)).run(resume=True)
    expected = small.trainer_of(replace(small.KILLED, out=alone)).run()
    assert small.curve(folder) == small.curve(alone)
    assert all(torch.equal(probe.state_dict()[name], value) for name, value in expected.state_dict().items())
    assert [step for step, _ in checkpoints(folder)] == [12, 10]
    states = [torch.load(checkpoint.checkpoint_path(place, 12), weights_only=True) for place in (folder, alone)]
    assert str(states[0]["optimizer"]) == str(states[1]["optimizer"]) and torch.equal(states[0]["rng"], states[1]["rng"])


def test_a_loss_that_is_nan_ends_it_and_the_last_state_stays(small, config, ends_as, refuses):
    message = refuses(small.spoilt(small.trainer_of(config)).run)
    assert "the loss is nan at step 3" in message and "last checkpoint is step-00000002.ckpt" in message
    assert str(config.optim.lr) in message and "--resume" in message
    assert ends_as(small.trainer_of(config).run(resume=True), config.out), "mended, it goes on as if nothing had been"


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_gradient_that_is_not_finite_changes_nothing(kind, small, config, refuses):
    """The loss of step 1 is finite; one number of one gradient is not."""
    trainer = small.trainer_of(replace(config, optim=replace(config.optim, kind=kind)))
    backward, before = trainer._backward, {}

    def spoil(batch):
        losses = backward(batch)
        if trainer.step == 1:
            before.update(weights=copied(trainer.learner.state_dict()), average=copied(trainer.average.weights))
            before["moments"] = str(trainer.optimizer.state_dict()["adam"]["state"])
            trainer.learner.merge.project.weight.grad[0, 0] = float("inf")
        return losses

    trainer._backward = spoil
    message = refuses(trainer.run)
    assert "the gradient is" in message and "at step 1; there is no checkpoint yet" in message and trainer.step == 1
    assert same(trainer.learner.state_dict(), before["weights"]) and same(trainer.average.weights, before["average"])
    assert str(trainer.optimizer.state_dict()["adam"]["state"]) == before["moments"]
    assert not checkpoints(config.out)


def copied(state):
    return {name: tensor.clone() for name, tensor in state.items()}


def same(a, b) -> bool:
    return all(torch.equal(a[name], b[name]) for name in b)


@pytest.mark.slow
def test_fp16_leaves_out_a_step_that_overflows_but_not_for_ever(small, config, refuses):
    config = replace(config, dtype="float16", steps=4, log=replace(config.log, save_every=4, validate_every=4, validation_samples=1))
    trainer = small.trainer_of(config)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    start = copied(trainer.learner.state_dict())
    inner, augmented = trainer.one_step, []

    def step(feed):
        row = inner(feed)
        augmented.append(same(trainer.learner.state_dict(), start) and same(trainer.average.weights, start))
        if trainer.step == 2:
            trainer.scaler.update(128.0)  # a scale that fits
        elif trainer.step == 3:
            start.update(copied(trainer.learner.state_dict()))
            trainer.scaler.update(2.0**60)
        return row

    trainer.one_step = step
    trainer.run()
    rows = [row for row in read_curve(config.out) if "loss" in row]
    assert augmented[:3] == [True, True, False], "two are left out, one fits"
    assert [row["grad_norm"] is None for row in rows] == [True, True, False, True]
    state = load_checkpoint(config.out)
    assert state["scaler"]["scale"] == trainer.scaler.get_scale() == 2.0**59
    again = small.trainer_of(replace(config, steps=7))
    again.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    again._restore(state)
    assert again.scaler.get_scale() == 2.0**59
    hopeless = small.trainer_of(replace(config, out=config.out.with_name("hopeless")))
    hopeless.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    backward = hopeless._backward
    hopeless._backward = lambda batch: (backward(batch), hopeless.learner.merge.project.bias.grad.fill_(float("inf")))[0]
    message = refuses(hopeless.run)
    assert "the gradient is" in message and "at step 2" in message and "--dtype bfloat16" in message  # scales 4, 2, 1


@pytest.mark.slow
def test_a_shard_that_goes_missing_is_one_sentence_and_may_come_back(configured, shards, tmp_path, refuses, small):
    """It is taken away after the first step, when it has been read once."""
    data = shutil.copytree(shards.cached, tmp_path / "shards")
    base = configured(steps=6, log=LogConfig(log_every=1, validate_every=100, validation_samples=2, grid_every=0, save_every=1))

    def trainer(out):
        config = replace(base, out=tmp_path / out, data=replace(base.data, shards=data))
        return Trainer(config, *training_bases().prepare(config, torch.device("cpu")))

    expected = trainer("alone").run().state_dict()
    broken = trainer("run")
    inner, gone = broken.one_step, data / "shard-000001.tar"

    def step(feed):
        gone.exists() and gone.rename(tmp_path / gone.name)
        return inner(feed)

    broken.one_step = step
    message = refuses(broken.run)
    assert f"{gone.name} is missing from {data}" in message and "put it back" in message
    kept = checkpoints(tmp_path / "run")
    assert kept[0][0] == broken.step < 6 and load_checkpoint(tmp_path / "run")["step"] == broken.step
    (tmp_path / gone.name).rename(gone)
    assert same(trainer("run").run(resume=True).state_dict(), expected)
    assert small.curve(tmp_path / "run") == small.curve(tmp_path / "alone")


def test_gradients_that_add_up_are_those_of_the_whole_batch(small, config, whole):
    trainer = small.trainer_of(replace(config, micro_batch=1))
    assert trainer.accumulation == 2
    state = trainer.run().state_dict()
    for row, other in zip(small.curve(config.out), small.curve(whole[0]), strict=True):
        assert row == pytest.approx(other, abs=1e-5), row["step"]
    assert max((state[name] - value).abs().max() for name, value in whole[1].items()) < 1e-4


def test_validation_and_grids_get_the_averaged_probe_in_eval_mode(small, config):
    looked, drawn = [], []

    def check(probe):
        assert not probe.training and not any(p.requires_grad for p in probe.parameters())
        torch.rand(3)  # the training must not mind
        looked.append((trainer.step, same(probe.state_dict(), trainer.average.weights)))
        return {"identity": 0.5}

    def grid(probe, path):
        drawn.append((trainer.step, path.name, same(probe.state_dict(), trainer.average.weights)))
        path.write_text("an image")

    config = replace(config, log=replace(config.log, grid_every=4))
    trainer = small.trainer_of(config, callbacks=Callbacks(check, grid))
    start = copied(trainer.learner.state_dict())
    probe = trainer.run()
    assert looked == [(1, True), (3, True), (6, True)], "early, as often as it should, and at the end"
    assert drawn == [(4, "step-00000004.png", True), (6, "step-00000006.png", True)]
    assert sorted(path.name for path in (config.out / "grids").iterdir()) == [name for _, name, _ in drawn]
    assert same(probe.state_dict(), trainer.average.weights) and not same(probe.state_dict(), start)
    rows = {row["step"]: row for row in read_curve(config.out) if "validation" in row}
    assert {row["identity"] for row in rows.values()} == {0.5} and "said" in rows[1] and "said" not in rows[3]
    assert rows[1]["go"] == ("no-go" not in rows[1]["said"])


def test_a_full_disk_at_a_grid_or_a_log_line_is_one_sentence(small, config, refuses):
    def grid(probe, path):
        raise OSError(28, "No space left on device")

    config = replace(config, log=replace(config.log, grid_every=3))
    message = refuses(small.trainer_of(config, callbacks=Callbacks(grid=grid)).run)
    assert "No space left" in message and "step-00000002.ckpt" in message
    (config.out.parent / "file").write_text("")
    assert "cannot be written" in refuses(small.trainer_of(replace(config, out=config.out.parent / "file")).run)
