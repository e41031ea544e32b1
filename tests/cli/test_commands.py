"""The command line, run as a person runs it: in this process, by its arguments."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from hybridbooth_core.cli import main
from hybridbooth_core.files.subject import Subject


@pytest.fixture(scope="module")
def pet(tmp_path_factory):
    """A creature's image, mask and class noun, and a subject made of them."""
    folder = tmp_path_factory.mktemp("pet")
    assert main(["miniature", "creature", "42", "--out", str(folder / "pet.png")]) == 0
    arguments = ["personalize", str(folder / "pet.png"), "--mask", str(folder / "pet_mask.png"), "--class-word", "cat"]
    assert main([*arguments, "--steps", "2", "--out", str(folder / "pet.safetensors")]) == 0
    return folder


def error_of(capsys, *arguments: object) -> str:
    """Run a command that must fail with exit code 2 and one sentence on stderr, and nothing that looks like a traceback."""
    assert main([str(a) for a in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hybridbooth: ")]
    assert len(lines) == 1
    return lines[0]


def image(path, array) -> str:
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(path)
    return str(path)


def test_demo_writes_a_board_and_a_subject_and_prints_scores(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "demo"), "--identity", "3"]) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"identity -?\d\.\d\d, prompt \d\.\d\d", printed)) == 3
    assert "10 steps" in printed and " s loading" in printed
    with Image.open(tmp_path / "demo" / "board.png") as board:
        assert board.width > 1000 and np.asarray(board).std() > 20
    assert Subject.load(tmp_path / "demo" / "subject.safetensors").info.steps == 10
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == ["board.png", "subject.safetensors"]


def test_personalize_writes_one_small_tensor_and_its_provenance(pet):
    tensors = load_file(pet / "pet.safetensors")
    assert list(tensors) == ["emb_params"]
    assert (pet / "pet.safetensors").stat().st_size < 16_000
    info = Subject.load(pet / "pet.safetensors").info
    assert (info.class_noun, info.steps, info.method, info.images) == ("cat", 2, "words", 1)
    assert str(pet) not in (pet / "pet.safetensors").read_bytes().decode("latin-1")


def test_personalize_draws_a_report_and_refuses_places_before_it_works(pet, tmp_path, capsys):
    arguments = ["personalize", str(pet / "pet.png"), "--mask", str(pet / "pet_mask.png"), "--class-word", "cat", "--steps", "1"]
    out = tmp_path / "a.safetensors"
    assert main([*arguments, "--out", str(out), "--report", str(tmp_path / "report.png")]) == 0
    with Image.open(tmp_path / "report.png") as report:
        assert report.width == 720 and np.asarray(report).std() > 20
    once = out.read_bytes()
    assert "exists already" in error_of(capsys, *arguments, "--out", tmp_path / "b.safetensors", "--report", tmp_path / "report.png")
    assert "ends in .png" in error_of(capsys, *arguments, "--out", tmp_path / "b.safetensors", "--report", tmp_path / "report.gif")
    other = ["--out", tmp_path / "b.safetensors", "--report", tmp_path / "c.png", "--method", "dreambooth_lora"]
    assert "has no --report" in error_of(capsys, *arguments, *other)
    assert out.read_bytes() == once and sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "report.png"]


def test_generate_draws_the_subject_and_strength_zero_is_the_class_noun(pet, tmp_path):
    def drawn(name, prompt, *more):
        assert main(["generate", prompt, "--steps", "4", "--out", str(tmp_path / name), *more]) == 0
        return np.asarray(Image.open(tmp_path / name))

    subject = ["--subject", f"pet={pet / 'pet.safetensors'}"]
    noun = drawn("noun.png", "a photo of a cat on snow")
    off = drawn("off.png", "a photo of a <pet> on snow", *subject, "--strength", "0")
    full = drawn("full.png", "a photo of a <pet> on snow", *subject)
    half = drawn("half.png", "a photo of a <pet> on snow", *subject, "--strength", "0.5")
    other = drawn("other.png", "a photo of a <pet> on snow", *subject, "--seed", "1")
    assert (noun == off).all()
    assert not (full == off).all() and not (half == full).all() and not (half == off).all() and not (other == full).all()


def test_two_subjects_fit_into_one_prompt(pet, tmp_path):
    both = ["--subject", f"a={pet / 'pet.safetensors'}", "--subject", f"b={pet / 'pet.safetensors'}"]
    assert main(["generate", "a photo of <a> and <b> on snow", *both, "--steps", "2", "--out", str(tmp_path / "p.png")]) == 0


def test_several_images_are_one_subject(pet, tmp_path):
    twice = [str(pet / "pet.png")] * 2
    out = tmp_path / "two.safetensors"
    assert main(["personalize", *twice, "--class-word", "cat", "--steps", "1", "--out", str(out)]) == 0
    assert Subject.load(out).info.images == 2


@pytest.mark.parametrize("kind", ["missing", "text", "empty file", "1x1"])
def test_a_image_that_is_none_is_one_sentence(kind, tmp_path, capsys):
    path = tmp_path / "bad.png"
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty file":
        path.touch()
    elif kind == "1x1":
        image(path, [[[1, 2, 3]]])
    out = tmp_path / "x.safetensors"
    assert "image" in error_of(capsys, "personalize", path, "--class-word", "cat", "--out", out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((64, 64)), "no mask is used"),
        (np.full((64, 64), 255), "no mask is used"),
        (np.pad(np.full((8, 16), 255), 12), "was stretched"),
    ],
    ids=["all 0", "all 1", "40x32"],
)  # fmt: skip
def test_a_mask_that_says_nothing_or_does_not_fit_is_remarked_on(mask, said, pet, tmp_path, caplog):
    path, out = image(tmp_path / "mask.png", mask), tmp_path / "x.safetensors"
    given = ["--mask", str(path), "--class-word", "cat", "--steps", "1", "--out", str(out)]
    assert main(["personalize", str(pet / "pet.png"), *given]) == 0 and out.exists()
    assert [said in record.message for record in caplog.records if record.name == "hybridbooth"] == [True]


def test_a_mask_that_cannot_be_read_is_one_sentence(pet, tmp_path, capsys):
    out = tmp_path / "x.safetensors"
    given = ["--mask", tmp_path / "none.png", "--class-word", "cat", "--out", out]
    assert "cannot be read" in error_of(capsys, "personalize", pet / "pet.png", *given) and not out.exists()


@pytest.mark.parametrize("array", [np.full((64, 64), 90), np.full((64, 64, 4), 90)], ids=["grey", "alpha"])
def test_grey_and_transparent_images_work_and_are_remarked_on(array, tmp_path, caplog):
    path, out = image(tmp_path / "p.png", array), tmp_path / "x.safetensors"
    assert main(["personalize", path, "--class-word", "cat", "--steps", "1", "--out", str(out)]) == 0
    assert out.exists()
    assert any("image is" in record.message for record in caplog.records)


@pytest.mark.parametrize("damage", ["missing", "truncated", "width", "nan", "two", "text"])
def test_a_damaged_subject_file_is_one_sentence(damage, pet, tmp_path, capsys):
    path = tmp_path / "s.safetensors"
    embeddings = torch.randn(5, 96)
    if damage == "truncated":
        path.write_bytes((pet / "pet.safetensors").read_bytes()[:-40])
    elif damage == "width":
        save_file({"emb_params": torch.randn(5, 768)}, path)
    elif damage == "nan":
        save_file({"emb_params": embeddings.fill_(float("nan"))}, path)
    elif damage == "two":
        save_file({"emb_params": embeddings, "more": embeddings.clone()}, path)
    elif damage == "text":
        path.write_text("not safetensors at all")
    out = tmp_path / "p.png"
    error_of(capsys, "generate", "a photo of <s>", "--subject", f"s={path}", "--out", out)
    assert list(tmp_path.iterdir()) == ([] if damage == "missing" else [path])


def test_prompts_and_places_that_cannot_be(pet, tmp_path, capsys):
    subject = ["--subject", f"pet={pet / 'pet.safetensors'}"]
    assert "<dog>" in error_of(capsys, "generate", "a photo of <dog>", *subject, "--out", tmp_path / "p.png")
    assert "'zebra'" in error_of(capsys, "generate", "a photo of a zebra", "--out", tmp_path / "p.png")
    assert "does not exist" in error_of(capsys, "generate", "a photo", "--out", tmp_path / "none" / "p.png")
    assert "does not exist" in error_of(
        capsys, "personalize", pet / "pet.png", "--class-word", "cat", "--out", tmp_path / "none" / "x.safetensors"
    )
    assert "exists already" in error_of(capsys, "personalize", pet / "pet.png", "--class-word", "cat", "--out", pet / "pet.safetensors")
    assert "name" in error_of(capsys, "personalize", pet / "pet.png", "--class-word", "cat", "--out", tmp_path / "a<b.safetensors")
    assert "zebra" in error_of(capsys, "personalize", pet / "pet.png", "--class-word", "zebra", "--out", tmp_path / "x.safetensors")
    (tmp_path / "file").touch()
    assert "cannot be made" in error_of(capsys, "demo", "--out", tmp_path / "file")
    assert "9999" in error_of(capsys, "demo", "--out", tmp_path / "d", "--identity", "10000")
    for guidance in ("nan", "inf", "-1", "1e30"):
        assert "guidance" in error_of(capsys, "generate", "a cat", f"--guidance={guidance}", "--out", tmp_path / "p.png")
    assert "strength" in error_of(capsys, "generate", "a <pet>", *subject, "--strength", "3", "--out", tmp_path / "p.png")


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("demo", "personalize", "generate", "miniature", "--model"))
