"""What a user with a plain checkpoint types, on one of reduced width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("diffusers")

from hybridbooth_core.cli import main
from hybridbooth_core.files.subject import Subject

SIDE = 64
PHOTO = next((Path(__file__).parents[1] / "data" / "dreambooth").glob("*/*.jpg"))


@pytest.fixture
def model(stock_checkpoint, monkeypatch):
    """Options that name the checkpoint, whose images are made small: its own 512 pixels take minutes."""
    from hybridbooth_core.models.diffusers_adapter import DiffusersModel

    loaded = DiffusersModel.__init__

    def small(self, *args, **kwargs):
        loaded(self, *args, **kwargs)
        self.image_size = SIDE

    monkeypatch.setattr(DiffusersModel, "__init__", small)
    return ["--model", str(stock_checkpoint), "--device", "cpu"]


def test_a_photo_becomes_a_subject_and_images(model, tmp_path, capsys):
    out = tmp_path / "pet.safetensors"
    few = ["--class-word", "cat", "--steps", "1"]
    assert main(["personalize", str(PHOTO), *model, *few, "--out", str(out), "--report", str(tmp_path / "report.png")]) == 0
    printed = capsys.readouterr().out
    assert "from_noun" in printed and "small-sd15" in printed
    assert Subject.load(out).info.family == "stable-diffusion-v1"
    drawing = [
        "generate",
        "a photo of <pet> on snow",
        "--negative",
        "blurry",
        "--subject",
        f"pet={out}",
        "--sampler",
        "euler_a",
        "--steps",
        "2",
    ]
    assert main([*drawing, *model, "--size", str(SIDE), "--batch", "2", "--seed", "3", "--out", str(tmp_path / "a.png")]) == 0
    first, second = (Image.open(tmp_path / name) for name in ("a.png", "a_2.png"))
    told = first.text["parameters"]  # type: ignore[attr-defined]
    assert told.startswith("a photo of <pet> on snow\nNegative prompt: blurry\nSteps: 2, Sampler: euler_a") and "Seed: 3" in told
    assert first.size == (SIDE, SIDE) and (np.asarray(first) != np.asarray(second)).any()


def test_the_old_name_of_the_option_is_hidden_but_works(stock_checkpoint, capsys):
    with pytest.raises(SystemExit):
        main(["personalize", "--help"])
    text = capsys.readouterr().out
    assert "--base" not in text and all(
        option in text for option in ("--model", "--probe", "--encoders", "--device", "--dtype", "--comfyui")
    )
    assert main(["personalize", str(PHOTO), "--base", "nothing/there", "--class-noun", "cat", "--out", "x.safetensors"]) == 2
    assert "nothing/there" in capsys.readouterr().err


def test_a_photo_without_a_model_is_refused(tmp_path, capsys):
    assert main(["personalize", str(PHOTO), "--class-word", "cat", "--out", str(tmp_path / "x.safetensors")]) == 2
    said = capsys.readouterr().err
    assert "--model" in said and "128" in said and not (tmp_path / "x.safetensors").exists()


def test_a_subject_of_the_miniature_is_refused(model, tmp_path, capsys):
    import torch

    from hybridbooth_core.files.subject import SubjectInfo

    Subject(torch.randn(5, 96), SubjectInfo(class_noun="cat", family="miniature", base_model="the miniature world")).save(
        tmp_path / "s.safetensors"
    )
    arguments = ["generate", "a <s>", "--subject", f"s={tmp_path / 's.safetensors'}", *model, "--out", str(tmp_path / "x.png")]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert all(part in said for part in ("miniature", "96", "stable-diffusion-v1", "64")) and not (tmp_path / "x.png").exists()


def test_the_demo_takes_a_photo(model, tmp_path, capsys):
    assert main(["demo", *model, "--out", str(tmp_path / "demo")]) == 2
    assert "--image" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        from hybridbooth_core.bases.sd15 import StableDiffusion15

        patch.setattr(StableDiffusion15, "sampling", type(StableDiffusion15.sampling)(1, 2.0))
        photo = ["--image", str(PHOTO), "--class-noun", "cat", "--steps", "1"]
        assert main(["demo", *model, *photo, "--out", str(tmp_path / "demo")]) == 0
    with Image.open(tmp_path / "demo" / "board.png") as board:
        assert np.asarray(board).std() > 20
