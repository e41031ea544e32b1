"""A trained probe as published: its file, its card, its hash; and what is refused without leaving anything behind."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from hybridbooth_core.cli import main
from hybridbooth_core.errors import UserError
from hybridbooth_core.probe.probe import Probe, ProbeConfig
from hybridbooth_core.training.checkpoint import load_checkpoint, save_checkpoint
from hybridbooth_core.training.config import Data, TrainConfig, to_json
from hybridbooth_core.training.export import export_probe

MADE = ProbeConfig(
    width=16, clip="a/clip", clip_width=8, dino="a/dino", dino_width=8, regressor="resampler", sizes={"layers": 1, "heads": 2},
    num_tokens=2, base_model="tiny | model", trained_on="24 images (shards 00ff)", licence="CC-BY-4.0 (20), unknown (4)",
)  # fmt: skip


@pytest.fixture
def averaged() -> Probe:
    torch.manual_seed(1)
    return Probe(MADE).eval().requires_grad_(False)


@pytest.fixture
def run(tmp_path, averaged) -> Path:
    """A folder of a training that has gone 30 of 40 steps; the weights that it trains are not their average."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = TrainConfig(out=folder, model="/home/somebody/models/sd15", steps=40, data=Data(shards=Path("/home/somebody/shards")))
    state = {
        "config": json.dumps(to_json(config)),
        "probe_config": json.dumps(asdict(MADE)),
        "probe": {name: tensor + 1 for name, tensor in averaged.state_dict().items()},
        "average": averaged.state_dict(),
    }
    save_checkpoint(folder, 30, state, keep=3)
    rows = [{"step": 20, "validation": 0.5, "validation_noun": 0.6}, {"step": 30, "loss": 0.1}]
    (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_average_is_exported_and_loads(run, averaged, tmp_path):
    out = tmp_path / "mine.safetensors"
    export_probe(run, out)
    probe = Probe.load(out)
    assert probe.config == replace(MADE, trained_on="24 images (shards 00ff); 30 of 40 steps of 8")
    for name, tensor in averaged.state_dict().items():
        assert torch.equal(probe.state_dict()[name], tensor.half().float()), name


def test_a_run_of_the_first_version_is_exported(run, averaged, tmp_path):
    state = load_checkpoint(run)
    made, config = json.loads(state["probe_config"]), json.loads(state["config"])
    made["words"], made["word_norm"], made["stepper"] = made.pop("num_tokens"), made.pop("embedding_norm"), 0
    del made["family"]
    config["base"], config["precision"] = config.pop("model"), {"float32": "fp32", "bfloat16": "bf16"}[config.pop("dtype")]
    save_checkpoint(run, 31, state | {"probe_config": json.dumps(made), "config": json.dumps(config)}, keep=1)
    export_probe(run, tmp_path / "mine.safetensors")
    assert Probe.load(tmp_path / "mine.safetensors").config == replace(MADE, trained_on="24 images (shards 00ff); 31 of 40 steps of 8")


def test_the_hash_is_that_of_the_file(run, tmp_path):
    out = tmp_path / "mine.safetensors"
    files = export_probe(run, out)
    assert {path.name for path in files} == {"mine.safetensors", "mine.md", "mine.safetensors.sha256"}
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert files[2].read_text() == f"{digest}  mine.safetensors\n" and digest in files[1].read_text()
    checked = subprocess.run(["sha256sum", "--check", files[2].name], cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_the_card_has_data_licences_and_results_and_no_paths(run, tmp_path):
    export_probe(run, tmp_path / "mine.safetensors", hub_model={"/home/somebody/models/sd15": "author/model"}.get)
    card = (tmp_path / "mine.md").read_text()
    head = card.split("---\n")[1]
    assert "base_model: author/model\ntags:\n" in head
    assert "license: other\n" in head and "library_name: hybridbooth" in head, "two licences are none that a hub knows"
    assert "24 images (shards 00ff)" in card and "CC-BY-4.0 (20), unknown (4)" in card
    assert "30 of 40, 240 samples" in card and "after 20 steps: 0.5000" in card and "0.6000" in card
    assert "tiny / model" in card, "a bar would end the cell"
    assert "somebody" not in card and str(tmp_path) not in card, "no places of this machine"


@pytest.mark.parametrize(
    ("licence", "known"), [("CC-BY-4.0 (24)", "cc-by-4.0"), ("Apache-2.0", "apache-2.0"), ("", "other"), ("mine (2)", "other")]
)
def test_one_licence_that_hubs_know_is_named(run, tmp_path, licence, known):
    from hybridbooth_core.training.card import model_card

    probe = Probe(replace(MADE, licence=licence))
    card = model_card("x", "0", 1, probe, TrainConfig(), 1, [])
    assert f"license: {known}\n" in card and "base_model" not in card


def test_the_same_run_makes_the_same_bytes(run, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    export_probe(run, first)
    export_probe(run, second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["mine.safetensors", "mine.md", "mine.safetensors.sha256"])
def test_existing_files_are_kept(run, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="--overwrite"):
        export_probe(run, tmp_path / "mine.safetensors")
    assert (tmp_path / name).read_text() == "mine" and len(list(tmp_path.glob("*mine*"))) == 1
    export_probe(run, tmp_path / "mine.safetensors", overwrite=True)
    assert Probe.load(tmp_path / "mine.safetensors").config.num_tokens == 2


def test_what_cannot_be_exported_is_one_sentence(run, tmp_path, refuses):
    out = tmp_path / "mine.safetensors"
    assert ".safetensors" in refuses(export_probe, run, tmp_path / "mine.ckpt")
    assert "train-probe" in refuses(export_probe, tmp_path / "nowhere", out)
    (tmp_path / "empty").mkdir()
    assert "checkpoints" in refuses(export_probe, tmp_path / "empty", out)
    refuses(export_probe, run, tmp_path / "nowhere" / "mine.safetensors")
    assert not list(tmp_path.glob("*mine*"))


@pytest.mark.parametrize("damage", ["no probe_config", "another shape", "a tensor less", "not finite"])
def test_a_damaged_checkpoint_leaves_nothing_behind(run, tmp_path, refuses, damage):
    path = next(run.glob("*.ckpt"))
    state = torch.load(path, weights_only=True)
    name = next(iter(state["average"]))
    if damage == "no probe_config":
        del state["probe_config"]
    elif damage == "another shape":
        state["average"][name] = torch.zeros(3)
    elif damage == "a tensor less":
        del state["average"][name]
    else:
        state["average"][name] = state["average"][name] * float("nan")
    torch.save(state, path)
    refuses(export_probe, run, tmp_path / "mine.safetensors")
    assert not list(tmp_path.glob("*mine*"))


def test_the_command(run, tmp_path, capsys):
    out = tmp_path / "mine.safetensors"
    assert main(["export-probe", str(run), "--out", str(out)]) == 0
    assert Probe.load(out).config.num_tokens == 2 and "mine.md" in capsys.readouterr().out
    assert main(["export-probe", str(run), "--out", str(out)]) == 2
    assert main(["export-probe", str(run), "--out", str(out), "--overwrite"]) == 0


def test_the_card_of_a_promptnet_says_whose_weights_it_began_with(averaged):
    from hybridbooth_core.training.card import model_card

    begun = "initialised from half of the base model's UNet"
    cards = []
    for regressor in ("promptnet", "resampler"):
        averaged.config = replace(MADE, regressor=regressor)
        cards.append(model_card("a.safetensors", "00", 1, averaged, TrainConfig(), 1, []))
    assert begun in cards[0] and begun not in cards[1]
