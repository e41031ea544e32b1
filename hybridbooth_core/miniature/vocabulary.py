"""The vocabulary of the miniature world. Each word is one token of CLIP's tokenizer, and its embedding table has only these rows.

`CLIP_IDS` gives each word's id in CLIP's vocabulary (vocab.json of openai/clip-vit-large-patch14, MIT), so that ComfyUI's tokenizer and
`MiniatureTokenizer` agree.
"""

from __future__ import annotations

import re

from ..errors import UserError

CLIP_START, CLIP_END, CLIP_ROWS = 49406, 49407, 49408
LENGTH = 32  # tokens of a context, including start and end

_WORDS: dict[str, int] = {
    "a": 320, "an": 550, "the": 518, "photo": 1125, "sketch": 5269, "picture": 1674, "of": 539, "at": 536, "in": 530, "on": 525,
    "with": 593, "and": 537, ",": 267, ".": 269, "night": 930, "sunset": 3424, "cat": 2368, "rabbit": 10274, "robot": 8797,
    "fish": 2759, "grass": 5922, "snow": 2583, "sand": 5094, "brick": 9518, "water": 1573, "space": 2138, "left": 1823, "middle": 3694,
    "right": 1155, "small": 2442, "big": 1205, "hat": 3801, "crown": 6902, "red": 736, "orange": 4287, "yellow": 4481, "lime": 11193,
    "green": 1901, "teal": 22821, "blue": 1746, "purple": 5496, "pink": 3360, "magenta": 38091, "plain": 10709, "striped": 22192,
    "banded": 37804, "spotted": 4533, "checked": 10387, "half": 2349, "wide": 3184, "narrow": 16652,
}  # fmt: skip
_FIRST_NAMES: dict[str, int] = {
    "max": 3902, "bella": 10418, "luna": 14425, "charlie": 6393, "lucy": 10120, "daisy": 12865, "rocky": 9648, "molly": 12573,
    "buddy": 6557, "bailey": 10180, "maggie": 14524, "sophie": 12357, "chloe": 13992, "duke": 7732, "lola": 19065, "zoe": 16662,
    "jack": 3267, "toby": 18333, "cody": 12666, "stella": 17869, "harley": 13632, "roxy": 28093, "milo": 24548, "oscar": 8191,
    "leo": 8312, "ruby": 11493, "rosie": 16888, "oliver": 9261, "simba": 39492, "felix": 16514, "kitty": 8417, "smokey": 23670,
    "jasper": 19827, "sammy": 16758, "coco": 13316, "oreo": 21873, "lily": 10647, "emma": 7445, "mia": 5852, "ava": 12385,
    "noah": 11519, "liam": 7167, "lucas": 10225, "mason": 9699, "ethan": 15958, "logan": 10569, "jacob": 9222, "aiden": 40020,
    "henry": 5508, "owen": 12056, "wyatt": 21660, "luke": 5652, "isaac": 13659, "dylan": 9900, "caleb": 19619, "nathan": 9711,
    "ryan": 4053, "adam": 4944, "eli": 6292, "ian": 1800, "evan": 12847, "colin": 10238, "trevor": 13219, "kyle": 7539, "brody": 29608,
    "blake": 9579, "gavin": 16389, "jordan": 4388, "connor": 10218, "austin": 5125, "tyler": 7058, "carlos": 9538, "diego": 6306,
    "pedro": 15114, "maria": 6595, "anna": 2160, "elena": 19421, "ivan": 15689, "boris": 15704, "olga": 34779, "nina": 13891,
    "vera": 13350, "hugo": 17132, "otto": 17730, "karl": 13134, "fritz": 29860, "hans": 16628, "heidi": 23867, "greta": 33443,
    "ingrid": 33496, "lars": 8669, "sven": 45183, "thor": 13691, "odin": 35175, "loki": 24435, "zeus": 32800, "hera": 38724,
    "apollo": 11554, "athena": 30705, "kira": 33038, "akira": 34001,
}  # fmt: skip

CLIP_IDS = _WORDS | _FIRST_NAMES
NAMES = tuple(_FIRST_NAMES)
"""First names, each of one train creature, like celebrities' names in a large model."""
UNUSED_WORDS = ("an", "picture")
"""Words of no training caption and so without meaning: this world's rare tokens for DreamBooth."""


class MiniatureTokenizer:
    """Maps words to rows of the miniature's embedding table: row 0 is start, row 1 end and padding (as in CLIP), then the words."""

    start, end, pad, length = 0, 1, 1, LENGTH
    rows = 2 + len(CLIP_IDS)

    @property
    def vocabulary(self) -> dict[str, int]:
        """The words as tokens of CLIP's vocabulary and their ids; those in `UNUSED_WORDS` get ids beyond its end, as the rarest."""
        return {f"{word}</w>": clip_id + (CLIP_ROWS if word in UNUSED_WORDS else 0) for word, clip_id in CLIP_IDS.items()}

    def __init__(self):
        self._row = {word: row for row, word in enumerate(CLIP_IDS, 2)}

    def encode(self, text: str) -> list[int]:
        """Table rows of the words of `text`, ignoring case; UserError names the first unknown word."""
        rows = []
        for word in re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text.lower()):
            if word not in self._row:
                raise UserError(
                    f"the miniature world does not know the word {word!r}; use its few words (see docs/miniature.md), such as: a photo of "
                    f"a small red striped cat with a hat on snow on the left at night"
                )
            rows.append(self._row[word])
        return rows


def clip_rows() -> list[int]:
    """The CLIP id of every row of the miniature's embedding table."""
    return [CLIP_START, CLIP_END, *CLIP_IDS.values()]
