"""Presets survive a round trip through JSON, and invalid configurations are refused."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json

import pytest

from hybridbooth_core.bases.training import training_bases
from hybridbooth_core.training import config as module
from hybridbooth_core.training.config import Data, LogConfig, TrainConfig, from_json, to_json
from hybridbooth_core.training.presets import preset

PRESETS = training_bases().presets
PARTS = [getattr(module, name) for name in ("Data", "ProbeShape", "Loss", "Optim", "LogConfig", "TrainConfig")]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_goes_through_json_and_back(name):
    assert from_json(json.loads(json.dumps(to_json(preset(name, PRESETS))))) == preset(name, PRESETS)


def test_the_recipes_are_what_they_are_said_to_be():
    paper, consumer = preset("sd15"), preset("sd15-consumer")
    assert paper.steps * paper.batch == consumer.steps * consumer.batch == 640_000
    assert (paper.probe.regressor, paper.optim.lr, paper.optim.weight_decay, paper.optim.warmup, paper.optim.ema) == (
        "promptnet", 2e-5, 1e-2, 500, 0.9999
    )  # fmt: skip
    assert consumer.data.cached and consumer.checkpointing and consumer.accumulation(1) == 8
    assert all(recipe.dtype == "bfloat16" and recipe.model != "miniature" for recipe in (paper, consumer))
    assert preset("miniature", PRESETS).model == "miniature"


def test_an_unknown_preset_names_those_that_are_known(refuses):
    message = refuses(preset, "sdxl", PRESETS)
    assert "'sdxl'" in message and all(name in message for name in PRESETS)


@pytest.mark.parametrize("kind", PARTS, ids=lambda kind: kind.__name__)
def test_every_setting_says_what_it_is(kind):
    """By a string behind it, which tyro shows as help; parts of the configuration say it in their own docstrings."""
    body = ast.parse(inspect.getsource(kind)).body[0].body
    told = {
        first.target.id
        for first, second in itertools.pairwise(body)
        if isinstance(first, ast.AnnAssign) and isinstance(second, ast.Expr) and len(second.value.value) > 10
    }
    parts = {
        field.name
        for field in dataclasses.fields(kind)
        if field.name in ("data", "probe", "hypernetwork", "adapter", "loss", "optim", "log")
    }
    assert {field.name for field in dataclasses.fields(kind)} - parts == told


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"steps": "many"}, "steps: input should be a valid integer, found 'many'"),
        ({"steps": True}, "steps: input should be a valid integer, found 'True'"),
        ({"steps": 1.5}, "steps: input should be a valid integer, found '1.5'"),
        ({"steps": 0}, "steps above 0"),
        ({"dtype": "fp99"}, "dtype: input should be 'float32', 'bfloat16' or 'float16', found 'fp99'"),
        ({"data": {"cached": "yes"}}, "data.cached: input should be a valid boolean, found 'yes'"),
        ({"data": {"shards": 4}}, "data.shards: input should be a valid string, found '4'"),
        ({"data": []}, "data: input should be an object, found '[]'"),
        ({"optim": {"lr": "2e-5"}}, "optim.lr: input should be a valid number, found '2e-5'"),
        ({"optim": {"lr": float("nan")}}, "lr above 0, found nan"),
        ({"loss": {"times": [0.1]}}, "loss.times.1: field required, found '[0.1]'"),
        ({"encoders": ["a", 3]}, "encoders.1: input should be a valid string, found '3'"),
        ({"probe": {"sizes": []}}, "probe.sizes: input should be an object, found '[]'"),
        ({"stepps": 3}, "stepps is no setting"),
        ({"batch": 7, "micro_batch": 2}, "7 and 2"),
        ([], "the file: input should be an object, found '[]'"),
    ],
)
def test_a_damaged_configuration_is_one_sentence(table, said, refuses):
    assert said in refuses(from_json, table)


def test_what_json_has_no_type_for_is_read_as_it_was():
    config = TrainConfig(data=Data(cached=True, augment=0, background=0), log=LogConfig(keep=1))
    table = to_json(config) | {"price": 1}
    assert from_json(table).price == 1.0 and isinstance(from_json(table).price, float)
    assert from_json({}) == TrainConfig()
