"""`hybridbooth make-probe`: from a checkpoint to a probe's file in one command that goes on where it was stopped."""

from __future__ import annotations

import json

import pytest

from hybridbooth_core.cli import main
from hybridbooth_core.data.shards import read_index
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.training.own_probe import NEUTRAL, RUN, SHARDS, own_config
from hybridbooth_core.training.presets import preset


def command(out, *more: str) -> list[str]:
    return ["make-probe", "--model", "miniature", "--out", str(out), "--subjects", "12", "--steps", "3", *more]


@pytest.mark.parametrize(
    ("out", "more", "said"),
    [
        ("probe.pt", [], "ends in .safetensors"),
        ("missing/probe.safetensors", [], "does not exist"),
        ("probe.safetensors", ["--subjects", "0"], "expected 1 to 10000000 subjects"),
        ("probe.safetensors", ["--vocabulary", "nowhere.json"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_drawn(out, more, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*command(out), *more]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.tar"))


@pytest.mark.parametrize("name", ["probe.safetensors", "probe.md"])
def test_no_file_is_replaced(name, tmp_path, capsys):
    (tmp_path / name).write_text("mine")
    assert main(command(tmp_path / "probe.safetensors")) == 2
    assert (tmp_path / name).read_text() == "mine" and sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_its_configuration_is_the_presets_on_the_drawings(tmp_path):
    before = preset("sd15-consumer")
    config = own_config(before, tmp_path, steps=7, seed=5)
    assert (config.steps, config.seed, config.out, config.data.shards) == (7, 5, tmp_path / RUN, tmp_path / SHARDS)
    assert (
        config.data.neutral == NEUTRAL
        and not config.data.cross_pairs
        and config.data.cached
        and config.log.grid_every > 0
        and config.optim == before.optim
    )
    assert own_config(before, tmp_path).steps == before.steps


@pytest.mark.slow
def test_a_stopped_run_continues_to_a_probe(tmp_path, monkeypatch):
    out, work = tmp_path / "own.safetensors", tmp_path / "own.work"

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("hybridbooth_core.training.own_probe.Trainer", stop)
        assert main(command(out)) == 130
    index = read_index(work / SHARDS)
    assert index.counts["read"] == 24 and not out.exists()
    drawn = {path.name: path.stat().st_mtime_ns for path in (work / SHARDS).iterdir()}
    assert main(command(out)) == 0
    assert {path.name: path.stat().st_mtime_ns for path in (work / SHARDS).iterdir()} == drawn, "nothing is drawn again"
    probe = Probe.load(out)
    assert "3 of 3 steps" in probe.config.trained_on and len(probe.config.gradient_norms) == 11
    assert out.with_suffix(".md").exists() and (tmp_path / "own.safetensors.sha256").exists()
    curve = [json.loads(line) for line in (work / RUN / "curve.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in curve) == 3


@pytest.mark.slow
def test_a_dry_run_says_how_long_it_takes_and_writes_nothing(tmp_path, capsys):
    assert main(command(tmp_path / "own.safetensors", "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "24 images of 12 subjects take about" in said and "3 steps of 24 are 72 samples" in said and "memory" in said
    assert not list(tmp_path.iterdir())
