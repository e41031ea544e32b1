"""The configuration: what makes no sense is refused, and what is written can be read back."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hybridbooth_core.miniature.training.probe import CONFIG
from hybridbooth_core.training.config import Data, LogConfig, Loss, Optim, ProbeShape, TrainConfig, from_json, to_json

FULL = TrainConfig(
    out=Path("some") / "run",
    model="models/sd15",
    encoders=(Path("models/clip"), Path("models/dino")),
    steps=7,
    batch=16,
    micro_batch=4,
    dtype="float16",
    data=Data(shards=Path("shards"), validation=Path("held_out"), cached=True, augment=0, background=0),
    probe=ProbeShape("resampler", 3, {"layers": 2}),
    loss=Loss(times=(0.25, 0.75)),
    optim=Optim("muon", lr=1e-3),
    log=LogConfig(keep=1),
)


@pytest.mark.parametrize("config", [TrainConfig(), FULL, CONFIG])
def test_it_goes_through_json_and_comes_back(config):
    text = json.dumps(to_json(config), allow_nan=False)
    assert from_json(json.loads(text)) == config
    assert hash(from_json(json.loads(text)).data) == hash(config.data), "paths and pairs are again what they were"


def test_what_an_earlier_version_did_not_say_is_the_default():
    table = to_json(FULL)
    del table["price"], table["log"]["grid_steps"], table["loss"]
    assert from_json(table) == replace(FULL, loss=Loss())


def test_the_first_versions_names_are_read():
    table = {**to_json(FULL), "base": "models/sd15", "precision": "bf16"}
    del table["model"], table["dtype"]
    table["data"]["lanes"] = table["data"].pop("interleave")
    table["probe"]["words"] = table["probe"].pop("num_tokens")
    table["watch"] = table.pop("log")
    assert from_json(table) == replace(FULL, dtype="bfloat16")


@pytest.mark.parametrize("table", [None, [], {"nothing": 1}, {"data": 3}, {"steps": "many"}, {"loss": {"times": 3}}, {"encoders": 5}])
def test_what_is_no_configuration_is_one_sentence(table, refuses):
    assert "damaged" in refuses(from_json, table)


def test_without_pydantic_it_says_what_to_install(monkeypatch, refuses):
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert 'pip install "hybridbooth[train]"' in refuses(from_json, {})


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_batch_divides_among_processes_and_micro_batches(world):
    assert FULL.accumulation(world) * world * FULL.micro_batch == FULL.batch


def test_a_batch_that_does_not_divide_is_one_sentence(refuses):
    assert "16" in refuses(FULL.accumulation, 3) and "micro-batches of 4 on 3 processes" in refuses(FULL.accumulation, 3)
    assert "micro-batch" in refuses(replace, FULL, micro_batch=5)


@pytest.mark.parametrize(
    "part, changes",
    [
        (TrainConfig(), {"steps": 0}),
        (TrainConfig(), {"batch": -8}),
        (TrainConfig(), {"seed": -1}),
        (TrainConfig(), {"seed": 1 << 32}),
        (Data(), {"neutral": 1.1}),
        (Data(), {"augment": -0.1}),
        (Data(), {"interleave": 0}),
        (ProbeShape(), {"num_tokens": 0}),
        (Loss(), {"times": (0.5, 0.5)}),
        (Loss(), {"times": (0.5, 1.5)}),
        (Loss(), {"background": 2}),
        (Optim(), {"lr": 0}),
        (Optim(), {"ema": 1.5}),
        (Optim(), {"clip": float("nan")}),
        (LogConfig(), {"log_every": 0}),
        (LogConfig(), {"keep": 0}),
    ],
)
def test_numbers_that_make_no_sense_are_one_sentence(part, changes, refuses):
    (name, value), *_ = changes.items()
    message = refuses(replace, part, **changes)
    assert name in message and str(value[0] if isinstance(value, tuple) else value) in message


def test_cached_tokens_cannot_be_augmented(refuses):
    assert "--data.augment 0 --data.background 0" in refuses(TrainConfig, data=Data(cached=True))
    assert TrainConfig(data=Data(cached=True, augment=0, background=0)).data.cached
