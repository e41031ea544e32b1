"""The whole world from nothing, with every stage cut to two steps: the machinery, not the quality."""

import json

import pytest

from hybridbooth_core.cli import main
from hybridbooth_core.errors import UserError
from hybridbooth_core.miniature.bundle import load_miniature, manifest
from hybridbooth_core.miniature.training.make import SCHEDULES, make_world, schedules


def test_a_trial_run_makes_weights_that_load_and_says_that_they_are_no_good(tmp_path, capsys):
    work, out = tmp_path / "work", tmp_path / "weights"
    out.mkdir()
    arguments = ["miniature", "train", "--only-steps", "2", "--work", str(work), "--out", str(out)]
    assert main(arguments) == 1, "untrained weights miss the gates"
    assert "gate is missed" in capsys.readouterr().out
    world = load_miniature(out)
    assert world.probe.config.base_fingerprint == world.model.fingerprint
    assert manifest(out)["stages"]["base"]["steps"] == 2 and not manifest(out)["gates_passed"]
    assert {path.stem for path in work.glob("*.ckpt")} == set(SCHEDULES)
    for path in work.glob("*.jsonl"):
        assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [2]

    before = {path.name: path.read_bytes() for path in out.glob("*.safetensors")}
    assert main(arguments) == 1
    assert {path.name: path.read_bytes() for path in out.glob("*.safetensors")} == before, "complete stages are only loaded"


def test_a_missing_folder_is_told_before_any_work(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        make_world(tmp_path / "work", tmp_path / "none")
    assert not (tmp_path / "work").exists()


def test_a_gpu_trains_longer():
    assert schedules("cuda")["base"].steps > schedules("cpu")["base"].steps == SCHEDULES["base"].steps
