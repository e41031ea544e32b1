"""The command `hybridbooth prepare`."""

import json

import pytest

from hybridbooth_core.cli import main

from .helpers import PHOTOS, stored


def run(*arguments) -> int:
    return main(["prepare", *map(str, arguments)])


def test_photos_to_shards_and_what_is_said_of_them(masked, tmp_path, capsys):
    (masked / "00.jpg").write_text("broken")
    out = tmp_path / "out"
    arguments = [masked, "--out", out, "--size", "64", "--area", ".15", ".6", "--licence", "CC-BY-4.0", "--shard-samples", "3"]
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    assert "kept 5 of 6 images in 2 shards, 5 with a mask" in printed
    assert "1 unreadable" in printed and "left_out.jsonl" in printed and "5 images have no class noun" in printed
    assert json.loads((out / "left_out.jsonl").read_text())["name"] == "00.jpg"
    assert {sample["json"]["licence"] for sample in stored(out)} == {"CC-BY-4.0"}
    assert run(*arguments) == 0
    assert "kept 5 of 6" in capsys.readouterr().out


def test_tars_to_shards(tmp_path, capsys):
    assert run(PHOTOS, "--out", tmp_path / "a", "--size", "64", "--shard-samples", "4") == 0
    tars = sorted((tmp_path / "a").glob("*.tar"))
    assert run(*tars, "--out", tmp_path / "b", "--size", "64", "--max-blur", "1", "--workers", "2") == 0
    assert "kept 6 of 6 images in 1 shards" in capsys.readouterr().out
    assert {sample["json"]["class_word"] for sample in stored(tmp_path / "b")} == {"cat", "toy"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "65"], "in steps of 8"), (["--area", ".7", ".1"], "two increasing numbers"), (["--workers", "0"], "workers"),
        (["--max-blur", "0"], "blur"),
        (["--make-masks", "none.pth"], "none.pth cannot be read"), (["--encoders", "none"], "CLIP ViT-L/14 was not found"),
        (["--model", "none"], "found no none"), (["--model", "none", "--device", "abacus"], "abacus"), (["--class-word", ""], "class"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence_and_make_nothing(arguments, said, masked, tmp_path, capsys):
    assert run(masked, "--out", tmp_path / "out", "--size", "64", *arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hybridbooth: ")]
    assert len(lines) == 1 and said in lines[0]
    assert not (tmp_path / "out").exists()


def test_the_models_latents_are_cached(new_pipeline, masked, tmp_path):
    pipeline = new_pipeline(width=32, length=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    pipeline.save_pretrained(tmp_path / "model", safe_serialization=True)
    assert run(masked, "--out", tmp_path / "out", "--size", "64", "--model", tmp_path / "model", "--device", "cpu") == 0
    samples = stored(tmp_path / "out")
    assert all("features.safetensors" in sample and sample["json"]["reference"] in ("subject", "whole") for sample in samples)
