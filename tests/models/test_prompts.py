"""Prompts with subjects, split into pieces."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.models.prompts import find_name, split_prompt, tags

ME, CAT = torch.zeros(5, 4), torch.ones(2, 4)
SUBJECTS = {"me": ME, "my-cat_2": CAT, "weak": "cat", "empty": "", "both": ["red", CAT]}


def pieces(text: str) -> list:
    return split_prompt(text, SUBJECTS)


def same(found: list, expected: list) -> bool:
    return len(found) == len(expected) and all(a is b or (isinstance(a, str) and a == b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a photo of <me> on snow", ["a photo of ", ME, " on snow"]),
        ("<me>", [ME]),
        ("<me> and <my-cat_2>", [ME, " and ", CAT]),
        ("<me><me>", [ME, ME]),
        ('"<me>", at night', ['"', ME, '", at night']),
        ("a photo of <weak> on snow", ["a photo of ", "cat", " on snow"]),
        ("a <both> on snow", ["a ", "red", CAT, " on snow"]),
        ("a <empty> photo", ["a ", " photo"]),
        ("no subject", ["no subject"]),
        ("", []),
        ("  <me>  ", [ME]),
        ("1 < 2 and <3 <>", ["1 < 2 and <3 <>"]),
        ("a < me > on snow", ["a ", ME, " on snow"]),
        ("＜me＞ 〈me〉", [ME, ME]),
        ("<ME> and <My-Cat_2>", [ME, " and ", CAT]),
        ("<lora:file:0.8> <me> <hypernet:x:1>", ["<lora:file:0.8> ", ME, " <hypernet:x:1>"]),
        ("<lora:file> <a/b> <a.b>", ["<lora:file> <a/b> <a.b>"]),
        ("<<me>>", ["<", ME, ">"]),
    ],
)
def test_names_are_replaced_by_their_subjects(text, expected):
    assert same(pieces(text), expected)


@pytest.mark.parametrize("text", ["a photo of <you>", "< you >", "<me> and <" + "x" * 64 + ">"])
def test_an_unknown_subject_is_named_with_the_known_ones(text, refuses):
    message = refuses(pieces, text)
    assert "<my-cat_2>" in message and ("<you>" in message or "x" * 64 in message)


def test_without_any_subject_the_message_says_none(refuses):
    assert "none" in refuses(split_prompt, "<me>", {})


@pytest.mark.parametrize(("text", "weight"), [("<me:0.8>", "0.8"), ("<me: 1>", "1"), ("＜me：.5＞", ".5"), ("< me : 1.25 >", "1.25")])
def test_a_weight_within_the_brackets_works_like_one_around_them(text, weight, refuses):
    assert split_prompt(f"a {text} b", {"me": "ME"}, weighted=True) == ["a ", "(", "ME", f":{weight})", " b"]
    assert "without a weight" in refuses(pieces, text)


@pytest.mark.parametrize("name", ["My Dog", "Größe", "犬", "собака", "Rex's dog", "a-b_c", "می‌خواهم"])
def test_names_of_any_script(name):
    assert split_prompt(f"a <{name}> b", {name: "X"}) == ["a ", "X", " b"]
    assert split_prompt(f"a < {name.upper()} > b", {name: "X"}) == ["a ", "X", " b"]


def test_two_ways_to_write_the_same_letters_are_one_name():
    assert find_name("Gr\u00f6\u00dfe", ["Gr\u00f6\u00dfe"]) and [tag.name for tag in tags("<Gro\u0308\u00dfe>")] == ["Gr\u00f6\u00dfe"]


def test_of_names_that_differ_by_case_alone_the_exact_one_counts():
    subjects = {"rex": "small", "Rex": "large"}
    assert split_prompt("<rex> <Rex>", subjects) == ["small", "large"]
    assert find_name("REX", subjects) is None, "which of them is meant?"
