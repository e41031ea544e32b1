"""The dataset's files, and damaged ones."""

import shutil

import pytest

from hybridbooth_core.evaluation.protocol import LIST_FILE, parse_lists, read_dataset


def test_the_published_lists(dataset):
    lists = parse_lists((dataset / LIST_FILE).read_text())
    assert len(lists.classes) == 30 and len(lists.object_prompts) == 25 and len(lists.live_prompts) == 25
    assert lists.classes["bear_plushie"] == "stuffed animal" and lists.classes["fancy_boot"] == "boot"
    assert sum(noun in ("cat", "dog") for noun in lists.classes.values()) == 9
    assert lists.object_prompts[15].text("toy") == "a toy on top of green grass with sunflowers around it"
    assert lists.live_prompts[13].text("cat") == "a cat wearing a black top hat and a monocle"
    assert lists.object_prompts[20:] == lists.live_prompts[20:]
    assert lists.live_prompts[20].text("dog") == "a red dog"


def test_the_subject_replaces_token_and_noun(dataset):
    lists = parse_lists((dataset / LIST_FILE).read_text())
    assert lists.object_prompts[0].pieces(["sks", "toy"]) == ["a", "sks", "toy", "in the jungle"]
    assert lists.object_prompts[24].pieces(["toy"]) == ["a cube shaped", "toy"]


def test_existing_subjects_get_the_prompts_of_their_kind(dataset):
    cat, duck = read_dataset(dataset)
    assert (cat.name, cat.noun, cat.live, duck.name, duck.noun, duck.live) == ("cat", "cat", True, "duck_toy", "toy", False)
    assert [photo.name for photo in cat.photos] == ["00.jpg", "01.jpg", "02.jpg"]
    assert cat.prompts[10].after == "wearing a red hat" and duck.prompts[10].after == "with a wheat field in the background"


def test_a_limit_selects_the_first(dataset):
    (one,) = read_dataset(dataset, subjects=1, prompts=2)
    assert one.name == "cat" and one.prompts == read_dataset(dataset)[0].prompts[:2]


def test_refusals(dataset, tmp_path, refuses):
    assert "prompts_and_classes.txt" in refuses(read_dataset, tmp_path)
    shutil.copy(dataset / LIST_FILE, tmp_path)
    assert "found none of the 30" in refuses(read_dataset, tmp_path)
    (tmp_path / "dog").mkdir()
    assert "no photo" in refuses(read_dataset, tmp_path)
    assert "at least 1" in refuses(read_dataset, dataset, 0)
    assert "at least 1" in refuses(read_dataset, dataset, None, -1)
    (tmp_path / LIST_FILE).write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refuses(read_dataset, tmp_path)


@pytest.mark.parametrize("line", ["'a {0} in the jungle'", "'a {0} {1} and a {1}'", "'a {0} {1} {__class__}'"])
def test_a_prompt_without_its_subject_is_refused(dataset, refuses, line):
    text = (dataset / LIST_FILE).read_text().replace("'a {0} {1} in the jungle'", line, 1)
    assert "expected a prompt" in refuses(parse_lists, text)


def test_a_list_without_prompts_is_refused_and_paths_are_not_names(refuses):
    assert "found 0 classes" in refuses(parse_lists, "")
    assert "found 1 classes" in refuses(parse_lists, "Classes\n\nsubject_name,class\ncat,cat\n../secret,cat\n")
