"""`personalize --method` and what `generate` does with its files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hybridbooth_core.cli import main
from hybridbooth_core.files.subject import Subject
from hybridbooth_core.methods.registry import METHODS

FEW = {name: [] if method.rate is None else ["--steps", "2"] for name, method in METHODS.items()}
PRIOR = ("dreambooth", "dreambooth_lora", "custom_diffusion", "lidb")
for method in PRIOR:
    FEW[method] = [*FEW[method], "--prior-pictures", "2"]


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A folder with an image and each method's file of it, made in a few steps."""
    folder = tmp_path_factory.mktemp("pets")
    assert main(["miniature", "creature", "42", "--out", str(folder / "pet.png")]) == 0
    for method, few in FEW.items():
        assert main([*personalize(folder, method), *few, "--out", str(folder / f"{method}.safetensors")]) == 0
    return folder


def personalize(folder, method) -> list[str]:
    return ["personalize", str(folder / "pet.png"), "--class-word", "cat", "--method", method]


def refused(capsys, arguments, out) -> str:
    assert main([*arguments, "--out", str(out)]) == 2 and not out.exists()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hybridbooth: ")]
    assert len(lines) == 1
    return lines[0]


def drawn(folder, name, prompt, *more):
    assert main(["generate", prompt, "--steps", "4", "--out", str(folder / name), *more]) == 0
    return np.asarray(Image.open(folder / name))


@pytest.mark.parametrize("method", METHODS)
def test_every_methods_file_is_drawn_with(method, pets, tmp_path):
    subject = ["--subject", f"pet={pets / method}.safetensors"]
    noun = drawn(tmp_path, "noun.png", "a photo of a cat on snow")
    off = drawn(tmp_path, "off.png", "a photo of a <pet> on snow", *subject, "--strength", "0")
    full = drawn(tmp_path, "full.png", "a photo of a <pet> on snow", *subject)
    late = drawn(tmp_path, "late.png", "a photo of a <pet> on snow", *subject, "--delay", "0.5")
    assert (noun == off).all() and not (full == noun).all() and not (late == full).all()


def test_a_subject_held_back_to_the_end_is_the_class_noun(pets, tmp_path):
    subject = ["--subject", f"pet={pets / 'hybridbooth'}.safetensors"]
    noun = drawn(tmp_path, "noun.png", "a photo of a cat on snow")
    assert (drawn(tmp_path, "late.png", "a photo of a <pet> on snow", *subject, "--delay", "1") == noun).all()


def test_words_and_weights_fit_into_one_prompt_but_not_two_weights(pets, tmp_path, capsys):
    embeddings, lora, full = (
        f"{name}={pets / file}.safetensors" for name, file in (("a", "hybridbooth"), ("b", PRIOR[1]), ("c", PRIOR[0]))
    )
    drawn(tmp_path, "two.png", "a <a> and a <b>", "--subject", embeddings, "--subject", lora)
    out = tmp_path / "x.png"
    message = refused(capsys, ["generate", "a <b> and a <c>", "--subject", lora, "--subject", full], out)
    assert "b and c" in message


@pytest.mark.parametrize(
    ("method", "option", "said"),
    [
        ("regression", ["--steps", "3"], "no steps"),
        ("regression", ["--rank", "3"], "rank"),
        ("regression", ["--mode", "words"], "mode"),
        ("hybridbooth", ["--rank", "3"], "rank"),
        ("hybridbooth", ["--learning-rate", "1"], "learning_rate"),
        ("probe_free", ["--mode", "words"], "mode"),
        ("probe_free", ["--rank", "3"], "rank"),
        ("probe_free", ["--words", "0"], "tokens"),
        ("probe_free", ["--learning-rate", "1"], "learning_rate"),
        ("hybridbooth", ["--inversion-steps", "3"], "inversion_steps"),
        ("dreambooth", ["--inversion-steps", "3"], "inversion"),
        ("dreambooth", ["--effective-step", "1"], "step_size"),
        ("dreambooth", ["--rank", "3"], "rank"),
        ("dreambooth_lora", ["--rank", "0"], "rank"),
        ("textual_inversion", ["--token", "red"], "token"),
        ("custom_diffusion", ["--prior-weight", "0", "--prior-pictures", "4"], "--prior-images"),
        ("custom_diffusion", ["--prior-pictures", "0"], "class images"),
        ("dreambooth", ["--learning-rate", "nan", "--prior-weight", "0"], "learning rate"),
    ],
)
def test_options_that_mean_nothing_together_are_one_sentence(method, option, said, pets, tmp_path, capsys):
    assert said in refused(capsys, [*personalize(pets, method), *option], tmp_path / "x.safetensors")


def test_without_a_class_word_probe_free_finds_one_and_the_others_ask(pets, tmp_path, capsys):
    image, out = ["personalize", str(pets / "pet.png")], tmp_path / "x.safetensors"
    assert "--class-noun" in refused(capsys, [*image, "--method", "hybridbooth"], out)
    few = ["--steps", "1", "--words", "3", "--inversion-steps", "1"]
    assert main([*image, "--method", "probe_free", *few, "--out", str(out)]) == 0
    subject = Subject.load(out)
    assert subject.embeddings.shape == (3, 96) and subject.info.method == "probe-free"
    printed = capsys.readouterr().out
    assert f"class noun: {subject.info.class_noun} " in printed and "1 inversion steps" in printed and "1 steps (probe-free" in printed


def test_a_delay_that_cannot_be_is_one_sentence(pets, tmp_path, capsys):
    out = tmp_path / "x.png"
    assert "--delay" in refused(capsys, ["generate", "a cat", "--delay", "0.2"], out)
    subject = ["--subject", f"pet={pets / 'hybridbooth'}.safetensors"]
    for delay in ("-0.1", "1.5", "nan"):
        assert "delay" in refused(capsys, ["generate", "a <pet>", *subject, f"--delay={delay}"], out)
