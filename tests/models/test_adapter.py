"""Prompts with subjects, split into pieces."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.models.adapter import split_prompt

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
        ("1 < 2 > 0 <3 <> <a b> <é>", ["1 < 2 > 0 <3 <> <a b> <é>"]),
        ("<<me>>", ["<", ME, ">"]),
    ],
)
def test_names_are_replaced_by_their_subjects(text, expected):
    assert same(pieces(text), expected)


@pytest.mark.parametrize("text", ["a photo of <you>", "<Me>", "<me> and <" + "x" * 64 + ">"])
def test_an_unknown_subject_is_named_with_the_known_ones(text, refuses):
    message = refuses(pieces, text)
    assert "<my-cat_2>" in message and ("<you>" in message or "<Me>" in message or "x" * 64 in message)


def test_without_any_subject_the_message_says_none(refuses):
    assert "none" in refuses(split_prompt, "<me>", {})
