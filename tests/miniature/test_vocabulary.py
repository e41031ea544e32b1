"""The vocabulary: every word is one token, every row one CLIP id, and other words are refused."""

from __future__ import annotations

import pytest

from hybridbooth_core.miniature.captions import HUES
from hybridbooth_core.miniature.vocabulary import CLIP_IDS, CLIP_ROWS, NAMES, MiniatureTokenizer, clip_rows
from hybridbooth_core.miniature.world import ACCESSORIES, BACKGROUNDS, KINDS, PATTERNS, PLACES, SIZES, STYLES

TOKENIZER = MiniatureTokenizer()


def test_the_vocabulary_covers_the_world():
    words = {*KINDS, *BACKGROUNDS, *PLACES, *SIZES, *ACCESSORIES, *STYLES, *PATTERNS, *HUES} - {"none", "plain"}
    assert words <= set(CLIP_IDS), words - set(CLIP_IDS)


def test_every_word_has_its_own_row_and_its_own_clip_id():
    rows = [TOKENIZER.encode(word) for word in CLIP_IDS]
    assert all(len(row) == 1 for row in rows)
    assert sorted(row[0] for row in rows) == list(range(2, TOKENIZER.rows))
    ids = clip_rows()
    assert len(ids) == len(set(ids)) == TOKENIZER.rows and max(ids) < CLIP_ROWS and min(ids) >= 0
    assert all(ids[TOKENIZER.encode(word)[0]] == CLIP_IDS[word] for word in CLIP_IDS)
    assert (ids[TOKENIZER.start], ids[TOKENIZER.end], TOKENIZER.pad) == (49406, 49407, TOKENIZER.end)


def test_names_are_not_other_words():
    assert len(NAMES) == len(set(NAMES)) and not {*NAMES} & {*KINDS, *BACKGROUNDS, *HUES, *PATTERNS}


@pytest.mark.parametrize(
    ("text", "words"),
    [("A Photo OF a cat", "a photo of a cat"), ("cat,fish.", "cat , fish ."), ("  cat\n\tfish ", "cat fish"), ("", ""), (" \n", "")],
)
def test_case_space_and_punctuation(text, words):
    assert TOKENIZER.encode(text) == [TOKENIZER.encode(word)[0] for word in words.split()]


@pytest.mark.parametrize(
    ("text", "word"),
    [("a photo of a dinosaur", "dinosaur"), ("cats", "cats"), ("cat-fish", "-"), ("(cat)", "("), ("кот", "к"), ("🐈", "🐈"),
     ("cat2", "cat2"), ("<me>", "<"), ("\0", "\\x00")],
)  # fmt: skip
def test_an_unknown_word_is_named(text, word, refuses):
    assert f"'{word}'" in refuses(TOKENIZER.encode, text)
