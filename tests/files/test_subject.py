"""Subject files: they come back equal, other programs read them, and nothing but words and provenance is in them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hybridbooth_core.files.subject import MAX_BYTES, Subject, SubjectInfo, check_name, reach

INFO = SubjectInfo(
    class_noun="cät",
    base_model="the miniature world",
    base_fingerprint="0123456789abcdef",
    probe="train creatures",
    method="residual",
    steps=5,
    unlikeness=1.25,
    step_size=5e-5,
    relative_change=0.0625,
    seed=2**64 - 1,  # the largest that ComfyUI gives
    images=2,
    validation=[0.5, 0.25, 0.2],
    validated=[0, 5, 10],
    licence="CC-BY-4.0",
)


def embeddings(n: int = 5, d: int = 16) -> torch.Tensor:
    return torch.randn(n, d)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "my-cat_1.safetensors"


def test_a_subject_comes_back_equal(path):
    subject = Subject(embeddings(), INFO)
    subject.save(path)
    loaded = Subject.load(path, width=16)
    assert torch.equal(loaded.embeddings, subject.embeddings) and loaded.embeddings.dtype == torch.float32
    assert loaded.info == INFO


def test_a_long_curve_comes_back_whole(path):
    info = replace(INFO, validation=[round(0.1 + i / 7, 6) for i in range(1001)])
    Subject(embeddings(), info).save(path)
    assert Subject.load(path).info.validation == info.validation


def test_half_precision_is_the_rounded_words(path):
    subject = Subject(embeddings())
    subject.save(path, half=True)
    assert load_file(path)["emb_params"].dtype == torch.float16
    assert torch.equal(Subject.load(path).embeddings, subject.embeddings.half().float())


def test_words_that_half_precision_cannot_hold_are_not_written(path, refuses):
    assert "not finite" in refuses(Subject(torch.full((1, 4), 1e6)).save, path, half=True)
    assert not path.exists()


def test_the_file_holds_exactly_one_tensor_and_is_small(path):
    Subject(embeddings(5, 768), INFO).save(path)
    tensors = load_file(path)
    assert list(tensors) == ["emb_params"] and tensors["emb_params"].shape == (5, 768)
    assert path.stat().st_size < 5 * 768 * 4 + 2048


def test_metadata_are_the_infos_fields_and_no_path(path):
    Subject(embeddings(), INFO).save(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert set(metadata) == {*asdict(INFO), "format", "format_version", "width", "modelspec.sai_model_spec", "modelspec.title",
                             "modelspec.trigger_phrase"}  # fmt: skip
    assert metadata["format"] == "hybridbooth.subject" and metadata["modelspec.trigger_phrase"] == "<my-cat_1>"
    text = json.dumps(metadata)
    assert str(path.parent) not in text and path.parent.name not in text and ".safetensors" not in text


def test_an_embedding_of_another_trainer_loads_without_provenance(path):
    save_file({"emb_params": embeddings(2)}, path)
    assert Subject.load(path).info == SubjectInfo()


@pytest.mark.parametrize(
    "damage",
    [{"steps": "many"}, {"steps": "[5]"}, {"steps": "true"}, {"validation": "[1, \"a\"]"}, {"validation": "7"}, {"validation": "{}"},
     {"seed": "1e999"}, {"displacement": "NaN"}, {"steps": "[" * 9999}, {"seed": "9" * 400}, {"steps": "null"}, {"effective_step": ""}],
    ids=lambda d: next(iter(d.items()))[1][:12],
)  # fmt: skip
def test_damaged_provenance_falls_back_to_its_default(path, damage):
    good = embeddings(2)
    save_file({"emb_params": good}, path, metadata={"class_word": "cat", **damage})
    loaded = Subject.load(path)
    assert torch.equal(loaded.embeddings, good) and loaded.info == SubjectInfo(class_noun="cat")


@pytest.mark.parametrize(
    "tensors",
    [{"emb_params": embeddings(), "clip_g": embeddings()}, {"clip_g": embeddings()}, {}, {"emb_params": torch.zeros(16)},
     {"emb_params": torch.zeros(1, 5, 16)}, {"emb_params": torch.zeros(0, 16)}, {"emb_params": torch.zeros(5, 0)},
     {"emb_params": torch.zeros(76, 16)}, {"emb_params": torch.zeros(5, 16, dtype=torch.int64)},
     {"emb_params": torch.full((5, 16), float("nan"))}, {"emb_params": torch.full((5, 16), float("-inf"))},
     {"emb_params": torch.zeros(5, 16, dtype=torch.float64)}],
    ids=["two tensors", "wrong key", "no tensor", "one axis", "three axes", "no words", "no width", "too many words", "integers", "nan",
         "infinity", "float64"],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused(path, tensors, refuses):
    save_file(tensors, path)
    assert path.name in refuses(Subject.load, path)


def test_another_width_is_refused_with_both_widths(path, refuses):
    Subject(embeddings(5, 16)).save(path)
    message = refuses(Subject.load, path, width=768)
    assert "768" in message and "16" in message


def test_a_large_file_is_refused_unread(path, refuses):
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert "another kind of file" in refuses(Subject.load, path)


@pytest.mark.parametrize(
    "bad", [torch.zeros(5), torch.zeros(0, 4), torch.zeros(4, 0), torch.zeros(76, 4), torch.full((1, 4), float("nan"))], ids=str
)
def test_words_that_are_none_make_no_subject(bad):
    with pytest.raises(ValueError, match="token embeddings"):
        Subject(bad)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a ",
        " a",
        "a.b",
        "../a",
        "a/b",
        "a\\b",
        "<a>",
        "a:b",
        "a,b",
        "a*",
        "a?",
        "a|b",
        '"a"',
        "(a)",
        "a\n",
        "a\0",
        "x" * 65,
        "con",
        "NUL",
        "com1",
        "Lpt9",
        "-\u202e",
        "a\u200bb",
        "\ud800",
    ],
    ids=lambda name: ascii(name)[:20],
)
def test_a_name_that_could_hurt_is_refused(tmp_path, name, refuses):
    refuses(check_name, name)
    if "/" not in name:  # a whole path is the person's own choice; what becomes one by joining goes through check_name
        refuses(Subject(embeddings()).save, tmp_path / f"{name}.safetensors")
        assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 64, "console", "com", "My Dog", "Größe", "犬", "Rex's dog"])
def test_a_plain_name_is_itself(tmp_path, name):
    assert check_name(name) == name
    Subject(embeddings()).save(tmp_path / f"{name}.safetensors")
    assert Subject.load(tmp_path / f"{name}.safetensors").embeddings.shape == (5, 16)


@pytest.mark.parametrize("name", [None, True, 5, 1.5, ["a"], {}])
def test_what_is_no_text_is_no_name(name, refuses):
    refuses(check_name, name)


def test_letters_that_are_written_in_parts_are_put_together():
    assert check_name("Gro\u0308\u00dfe") == "Gr\u00f6\u00dfe"


def test_a_name_too_long_for_the_disk_is_refused_as_a_name(tmp_path, refuses):
    assert "1 to 64 characters" in refuses(Subject(embeddings()).save, tmp_path / ("x" * 300 + ".safetensors"))


def test_an_existing_file_is_kept_unless_asked(path, refuses):
    first, second = Subject(embeddings()), Subject(embeddings())
    first.save(path)
    assert "exists already" in refuses(second.save, path)
    assert torch.equal(Subject.load(path).embeddings, first.embeddings)
    second.save(path, overwrite=True)
    assert torch.equal(Subject.load(path).embeddings, second.embeddings)


def test_a_folder_that_does_not_exist_is_named(tmp_path, refuses):
    assert "none" in refuses(Subject(embeddings()).save, tmp_path / "none" / "cat.safetensors")
    assert not list(tmp_path.iterdir())


def test_strength_runs_from_the_class_noun_over_the_subject_beyond_it():
    subject, noun = Subject(embeddings(), INFO), torch.randn(2, 16)
    assert subject.at_strength(0, noun) == "cät"
    assert subject.at_strength(1, noun) is subject.embeddings
    start = noun.mean(0)
    for strength in (0.25, 0.8, 1.5, 2):
        found = subject.at_strength(strength, noun)
        torch.testing.assert_close(found, start + reach(strength) * (subject.embeddings - start))


def test_the_whole_range_of_strength_is_used():
    places = [reach(step / 20) for step in range(41)]
    assert places[0] == 0 and places[20] == 1 and places == sorted(places), "0 is the noun, 1 the subject, and more is more"
    assert 0.55 < reach(0.5) < 0.7, "the subject appears late on the line, so half the strength is more than half the way"
    assert 1.05 < reach(2) <= 1.15, "far beyond the subject its class is lost"


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(strength, refuses):
    refuses(Subject(embeddings()).at_strength, strength, torch.zeros(1, 16))
