"""The rule for rare tokens of CLIP's vocabulary, and what stands in for it elsewhere."""

from __future__ import annotations

import json
import re

import pytest
import torch

from hybridbooth_core.methods.rare_tokens import MEANINGFUL, rare_token, rare_tokens
from hybridbooth_core.miniature.captions import random_captions, with_names
from hybridbooth_core.miniature.vocabulary import UNUSED_WORDS, MiniatureTokenizer
from hybridbooth_core.miniature.world import creatures, random_scenes, split_numbers

from ..host.comfy import find_installations


def test_the_rule():
    vocabulary = {
        "sks</w>": 48136,  # a rifle
        "hta</w>": 49384,
        "cat</w>": 2368,  # common
        "waj</w>": 49367,
        "waj": 49399,  # not the end of a word
        "ohwx</w>": 47993,  # four letters
        "a1</w>": 49000,
        "zz</w>": 40000,
        "yy</w>": 39999,
        "xx</w>": 49406,
    }
    assert rare_tokens(vocabulary) == ["hta", "waj", "zz"]
    assert rare_token(vocabulary) == "hta"


def test_on_clips_own_vocabulary():
    hosts = find_installations()
    if not hosts:
        pytest.skip("CLIP's vocabulary is read from a ComfyUI: set COMFYUI_PATH")
    vocabulary = json.loads((hosts[0].path / "comfy" / "sd1_tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    found = rare_tokens(vocabulary)
    by_rule = {t[:-4] for t, i in vocabulary.items() if 40000 <= i <= 49405 and re.fullmatch("[a-z]{2,3}</w>", t)}
    assert len(by_rule) == 627  # as counted in method.md, section D
    assert by_rule >= MEANINGFUL and set(found) == by_rule - MEANINGFUL
    assert found[0] == "hta"


def test_without_such_tokens_any_word_may_stand_in():
    assert rare_tokens({"cat</w>": 5, "sven</w>": 9, "c": 1, ".</w>": 20, "a</w>": 30}) == ["sven", "cat"]


def test_a_vocabulary_without_words_is_refused(refuses):
    assert "say one yourself" in refuses(rare_token, {"c": 1, ".</w>": 2})


def test_the_miniatures_rare_tokens_are_words_that_no_caption_says():
    vocabulary = MiniatureTokenizer().vocabulary
    assert set(rare_tokens(vocabulary)[: len(UNUSED_WORDS)]) == set(UNUSED_WORDS)
    generator = torch.Generator().manual_seed(0)
    said = set()
    for _ in range(20):
        who, where = creatures(split_numbers("train", 64)), random_scenes(64, generator)
        _, captions = with_names(who, where, random_captions(who, where, generator), generator)
        said |= {word for caption in captions for piece in caption for word in str(piece).split()}
    assert len(said) > 60 and not said & set(UNUSED_WORDS)
