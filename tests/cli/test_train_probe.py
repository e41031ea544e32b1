"""`hybridbooth train-probe`, by its arguments: a small training of the miniature, tried, stopped, gone on with and refused."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import re
import runpy
import sys

import pytest
import torch
from PIL import Image

from hybridbooth_core.bases.training import training_bases
from hybridbooth_core.cli import main
from hybridbooth_core.miniature import bundle
from hybridbooth_core.miniature.training import probe
from hybridbooth_core.training import command, presets
from hybridbooth_core.training.arguments import parse
from hybridbooth_core.training.checkpoint import checkpoints
from hybridbooth_core.training.config import TrainConfig
from hybridbooth_core.training.dry_run import duration
from hybridbooth_core.training.metrics import read_curve
from hybridbooth_core.training.trainer import Trainer

pytest.importorskip("tyro")
pytest.importorskip("diffusers")

PRESETS = training_bases().presets
preset = functools.partial(presets.preset, presets=PRESETS)
SMALL = [
    "miniature", "--steps", "4", "--batch", "2", "--micro-batch", "2", "--optim.kind", "adamw", "--log.validation-samples", "2",
    "--log.validate-every", "4", "--log.save-every", "2", "--log.log-every", "1", "--log.grid-every", "0",
    "--probe.sizes", '{"layers": 1, "heads": 4, "inner": 32}',
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """The world is loaded once, and its judge, whose images take longer than all else, stays out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "load_miniature", functools.cache(bundle.load_miniature))
        patch.setattr(probe.JudgeCheck, "__call__", lambda self, probe: {})
        yield


def flags(kind: type = TrainConfig, prefix: str = "--") -> list[str]:
    """Every setting as a flag, told from the dataclasses."""
    found = []
    for field in dataclasses.fields(kind):
        part = field.default_factory if field.default_factory is not dataclasses.MISSING else None
        name = f"{prefix}{field.name.replace('_', '-')}"
        found += flags(part, f"{name}.") if dataclasses.is_dataclass(part) else [name]
    return found


def refused(capsys, *words: object) -> str:
    """Run a command that must fail with exit code 2 and one sentence."""
    assert main(["train-probe", *map(str, words)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hybridbooth: ")]
    assert len(lines) == 1
    return lines[0]


def stopped(capsys, *words: str) -> tuple[int, str]:
    """Run a command that ends by itself: its exit code, and what it said."""
    with pytest.raises(SystemExit) as stop:
        main(["train-probe", *words])
    said = capsys.readouterr()
    return stop.value.code, said.out + said.err


def test_help_teaches_what_there_is(capsys):
    code, text = stopped(capsys, "--help")
    own = [name for name, (_, made) in PRESETS.items() if made().learner == "probe"]
    assert code == 0 and len(own) == 3 and all(word in text for word in (*own, "--resume", "--dry-run", "examples:", "docs/training.md"))
    assert stopped(capsys)[0] == 2


@pytest.mark.parametrize("name", PRESETS)
def test_help_of_a_preset_lists_every_setting_as_it_is_there(name, capsys):
    code, text = stopped(capsys, name, "--help")
    assert code == 0 and "--dry-run" in text
    assert [flag for flag in flags() if not re.search(rf"{re.escape(flag)}[ ,]", text)] == []
    plain = " ".join(re.sub(r"[│─╭╮╰╯]", " ", text).split())
    assert f"(default: {preset(name).steps})" in plain and f"(default: {preset(name).optim.lr})" in plain


def test_flags_change_what_they_name_and_nothing_else():
    words = ["sd15", "--optim.lr", "3e-4", "--data.shards", "s", "--data.cached", "--data.augment", "0", "--data.background", "0"]
    words += ["--encoders", "a", "b", "--probe.sizes", '{"pooled": 8}', "--loss.times", "0.1", "0.9", "--dry-run"]
    request, plain = parse(words, PRESETS), preset("sd15")
    changed = {name for name in vars(plain) if getattr(request.config, name) != getattr(plain, name)}
    assert changed == {"optim", "data", "encoders", "probe", "loss"} and request.dry_run and not request.resume
    assert request.config.optim == dataclasses.replace(plain.optim, lr=3e-4)
    assert [str(folder) for folder in request.config.encoders] == ["a", "b"] and request.config.probe.sizes == {"pooled": 8}


def test_options_of_the_first_version_go_on():
    old = parse(["sd15", "--base", "a", "--precision=fp32"], PRESETS).config
    assert old == parse(["sd15", "--model", "a", "--dtype", "float32"], PRESETS).config
    assert parse(["sd15", "--precision", "bf16", "--base=fp16"], PRESETS).config == parse(["sd15", "--model", "fp16"], PRESETS).config


def test_a_stored_configuration_is_one_to_begin_with(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"steps": 7, "optim": {"lr": 1e-3}}))
    config = parse([str(path), "--seed", "5"], PRESETS).config
    assert (config.steps, config.optim.lr, config.seed, config.batch) == (7, 1e-3, 5, TrainConfig().batch)


def test_what_is_no_configuration_is_one_sentence(tmp_path, capsys):
    assert "'sdxl'" in refused(capsys, "sdxl")
    assert "before all options" in refused(capsys, "--optim.lr", "1", "sd15")
    assert "cannot be read" in refused(capsys, tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    assert "is not JSON" in refused(capsys, tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text('{"steps": "many"}')
    assert "found 'many'" in refused(capsys, tmp_path / "bad.json")
    assert "contains no training" in refused(capsys, "--resume", tmp_path)
    assert "found nothing" in refused(capsys, "--resume")
    assert "leave out sd15" in refused(capsys, "sd15", "--resume", tmp_path)
    assert "--model" in refused(capsys, "sd15", "--model", tmp_path / "none")
    assert "found no" in refused(capsys, "sd15", "--base", tmp_path / "none")
    assert "--data.augment 0" in refused(capsys, "miniature", "--data.cached")
    assert "7 and 24" in refused(capsys, "miniature", "--batch", "7")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--optim.speed", "3"], "--optim.speed"),
        (["--optim.lr", "fast"], "'fast'"),
        (["--optim.lr", "0"], "lr above 0"),
        (["--dtype", "fp99"], "fp99"),
        (["--probe.sizes", "{"], "--probe.sizes"),
    ],
)
def test_a_flag_that_is_none_names_itself(words, said, capsys):
    code, text = stopped(capsys, "miniature", *words)
    assert code == 2 and said in " ".join(re.sub(r"[│─╭╮╰╯]", " ", text).split())


def test_without_tyro_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert 'needs the package tyro; run: pip install "hybridbooth[train]"' in refused(capsys, "miniature")


def test_a_dry_run_says_what_it_takes_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hybridbooth_core.training.dry_run.STEPS", 2)
    assert main(["train-probe", *SMALL, "--out", str(tmp_path / "run"), "--dry-run", "--price", "2"]) == 0
    said = capsys.readouterr().out
    assert said.index("estimated memory: 0.0") < said.index("measured memory: ")
    assert "samples a second: 4 steps of 2 are 8 samples" in said
    hours = float(re.search(r"take ([\d.e-]+) hours", said)[1])
    assert float(re.search(r"that is ([\d.e-]+) dollars", said)[1]) == pytest.approx(2 * hours, rel=0.02)
    assert list(tmp_path.iterdir()) == []


def test_hours_and_dollars_are_those_of_the_whole_training():
    lines = duration(dataclasses.replace(preset("sd15"), price=2.5), rate=10)
    assert "80000 steps of 8 are 640000 samples and take 17.8 hours" in lines[0] and lines[1].endswith("that is 44.4 dollars")
    assert "add --price" in duration(preset("sd15"), rate=10)[1]


def interrupting(monkeypatch, at: int) -> None:
    """Ctrl-C before the step after this one."""
    step = Trainer.one_step

    def one_step(self, feed):
        if self.step == at:
            raise KeyboardInterrupt
        return step(self, feed)

    monkeypatch.setattr(Trainer, "one_step", one_step)


def test_a_training_is_interrupted_gone_on_with_and_ends_as_one_that_was_not(tmp_path, capsys, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["train-probe", *SMALL, "--out", str(whole)]) == 0
    said = capsys.readouterr().out
    assert "trained 4 steps of 2; validation loss 0." in said and f"export-probe {whole} --out" in said
    assert {"config.json", "curve.jsonl", "step-00000002.ckpt", "step-00000004.ckpt"} <= {path.name for path in whole.iterdir()}

    with monkeypatch.context() as patch:
        interrupting(patch, 1)
        assert main(["train-probe", *SMALL, "--out", str(parts)]) == 130
        assert "after 1 steps, before the first checkpoint; the same command starts again" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        interrupting(patch, 3)
        assert main(["train-probe", *SMALL, "--out", str(parts)]) == 130
        assert f"train-probe --resume {parts} continues from step 2" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(probe, "prepare_miniature_training", None)  # told before anything is loaded
        assert "already contains a training" in refused(capsys, *SMALL, "--out", parts)
    assert "started with another seed" in refused(capsys, "--resume", parts, "--seed", "3")
    assert "continues in its own folder" in refused(capsys, "--resume", parts, "--out", tmp_path / "other")
    assert main(["train-probe", f"--resume={parts}"]) == 0
    assert checkpoints(parts)[0][0] == 4
    states = [torch.load(checkpoints(folder)[0][1], weights_only=True)["average"] for folder in (whole, parts)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

    moved = parts.rename(tmp_path / "moved")  # and further, with what may change
    assert main(["train-probe", "--resume", str(moved), "--steps", "5", "--log.keep", "1", "--log.grid-every", "5",
                 "--log.grid-subjects", "1", "--log.grid-steps", "2"]) == 0  # fmt: skip
    assert [step for step, _ in checkpoints(moved)] == [5] and read_curve(moved)[-1]["step"] == 5
    with Image.open(moved / "grids" / "step-00000005.png") as image:
        assert image.width > 1000


def test_python_m_is_the_same_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hybridbooth_core.training", "nothing"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("hybridbooth_core.training", run_name="__main__")
    assert stop.value.code == 2 and "found 'nothing'" in capsys.readouterr().err


@pytest.fixture
def _as_loud_as_before():
    logger = logging.getLogger("hybridbooth")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("_as_loud_as_before")
def test_of_several_processes_the_first_one_speaks(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert command.run(["nothing"], training_bases()) == 2
    for words in ([], ["--help"], ["miniature", "--help"], ["miniature", "--stpes", "3"]):
        with pytest.raises(SystemExit):
            command.run(words, training_bases())
    said = capsys.readouterr()
    assert said.out == "" and said.err == ""


def test_what_another_process_alone_runs_into_it_says_itself(monkeypatch, capsys, refuses):
    from hybridbooth_core.errors import UserError
    from hybridbooth_core.training.distributed import DistributedEnv

    def fail(self, feed):
        raise UserError("shard-000001.tar is missing from here; put it back")

    monkeypatch.setattr(Trainer, "one_step", fail)
    monkeypatch.setattr(command, "_processes", lambda config: DistributedEnv(torch.device("cpu"), rank=1))
    request = parse(SMALL, PRESETS)
    monkeypatch.setattr(Trainer, "_start", lambda self, folder, resume: None)
    refuses(command._execute, request, training_bases(), DistributedEnv(torch.device("cpu"), rank=1))
    assert "hybridbooth (process 1): shard-000001.tar is missing" in capsys.readouterr().err
