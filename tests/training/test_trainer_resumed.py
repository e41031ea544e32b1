"""Where a training goes on: what may be another then, and what may not."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace

import torch

from hybridbooth_core.training import checkpoint
from hybridbooth_core.training.config import ProbeShape, from_json
from hybridbooth_core.training.metrics import read_curve


def stop(*_, **__):
    raise AssertionError("nothing is to be computed")


def test_what_is_complete_is_only_loaded(small, whole, ends_as, monkeypatch):
    folder, before = whole[0], {path.name: path.stat().st_mtime_ns for path in whole[0].glob("step-*")}
    trainer = small.trainer_of(replace(small.CONFIG, out=folder))
    monkeypatch.setattr(trainer, "one_step", stop)
    monkeypatch.setattr(trainer.context.source, "held_out", stop)
    assert ends_as(probe := trainer.run(resume=True), folder)
    assert not probe.training and not any(p.requires_grad for p in probe.parameters())
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("step-*")} == before


def test_what_may_change_where_a_training_goes_on(small, config, whole, refuses, caplog):
    shutil.copytree(whole[0], config.out)
    for path in (checkpoint.checkpoint_path(config.out, 6), config.out / "curve.jsonl"):
        path.unlink()

    def going_on(**changes):
        return small.trainer_of(replace(config, **changes))

    assert "--resume" in refuses(going_on().run), "not without being asked to"
    assert "another seed, batch" in refuses(going_on(seed=3, batch=4).run, resume=True).replace("batch, seed", "seed, batch")
    assert "another data" in refuses(going_on(data=replace(config.data, neutral=0.9)).run, resume=True)
    assert "optim.kind" in refuses(going_on(optim=replace(config.optim, kind="muon")).run, resume=True)
    assert "already at step 4" in refuses(going_on(steps=3).run, resume=True)
    assert not (config.out / "curve.jsonl").exists()
    with caplog.at_level(logging.WARNING, "hybridbooth"):
        slower = going_on(optim=replace(config.optim, lr=1e-4, weight_decay=0.5, decay=0), micro_batch=1, log=small.KILLED.log)
        slower.run(resume=True)
    assert "resuming with a changed setting: optim" in caplog.text
    assert {group["lr"] for group in slower.optimizer.parts["adam"].param_groups} == {1e-4}
    assert {group["weight_decay"] for group in slower.optimizer.parts["adam"].param_groups} == {0.5, 0}
    assert [row["step"] for row in read_curve(config.out) if "loss" in row] == [6]
    assert from_json(json.loads((config.out / "config.json").read_text())) == slower.config


def test_a_checkpoint_of_another_probe_is_one_sentence(small, config, whole, refuses):
    shutil.copytree(whole[0], config.out)
    other = small.trainer_of(replace(config, probe=ProbeShape("resampler", num_tokens=4, sizes=config.probe.sizes)))
    other.config = config  # as if the same name stood for another model now
    assert "belong to a different probe" in refuses(other.run, resume=True)


def test_a_checkpoint_of_before_there_was_more_in_them_can_be_read(small, config, whole, ends_as):
    shutil.copytree(whole[0], config.out)
    checkpoint.checkpoint_path(config.out, 6).unlink()
    path = checkpoint.checkpoint_path(config.out, 4)
    state = torch.load(path, weights_only=True)
    del state["device_rng"]
    began = json.loads(state["config"])
    del began["checkpointing"], began["log"]["grid_subjects"]
    torch.save({**state, "config": json.dumps(began)}, path)
    assert ends_as(small.trainer_of(config).run(resume=True), config.out)


def test_two_trainings_cannot_work_in_one_folder(small, config, refuses, monkeypatch):
    first, second = (small.trainer_of(replace(config, steps=2)) for _ in range(2))
    augmented = []
    inner = first.one_step
    monkeypatch.setattr(first, "one_step", lambda feed: (augmented.append(refuses(second.run)), inner(feed))[1])
    first.run()
    assert len(augmented) == 2 and all("another training is running" in message for message in augmented)
    second.run(resume=True)
