"""The rare token of DreamBooth: a short piece of text that the text encoder knows as one token but has hardly seen (Ruiz et al. 2023, 3.2).

The paper takes ids 5000 to 10000 of T5's vocabulary. In CLIP's, sorted by frequency, that range is full of plain words (pig, owl, cow);
its rare end is ids 40000 to 49405.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import UserError

RARE_IDS = range(40000, 49406)
MEANINGFUL = {
    "aon", "ccd", "cov", "dbz", "dds", "exe", "ewe", "fck", "fol", "hep", "ibc", "jap",
    "lun", "mib", "muc", "nrg", "ofi", "pkg", "rmb", "rps", "sks", "ssh", "tux", "uwe", "vot", "wol", "yui",
}  # fmt: skip
"""Tokens of that range with a meaning that shows in images or in company: acronyms, names, short words ("sks" is a rifle)."""


def rare_tokens(vocabulary: Mapping[str, int]) -> list[str]:
    """Candidates from a vocabulary of CLIP's kind (token to id, "</w>" ends a word), the rarest first.

    Two or three letters, ids 40000 to 49405. A vocabulary that has none, such as the miniature's, offers all its words.
    """
    words = {token[:-4]: rank for token, rank in vocabulary.items() if re.fullmatch(r"[a-z]{2,}</w>", token)}
    by_rule = [word for word, rank in words.items() if len(word) <= 3 and rank in RARE_IDS and word not in MEANINGFUL]
    return sorted(by_rule or words, key=lambda word: -words[word])


def rare_token(vocabulary: Mapping[str, int]) -> str:
    """The rarest candidate. UserError: the vocabulary holds no word at all."""
    candidates = rare_tokens(vocabulary)
    if not candidates:
        raise UserError("this model's vocabulary offers no rare token; say one yourself")
    return candidates[0]
