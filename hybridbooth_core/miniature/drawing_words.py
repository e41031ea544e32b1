"""What the miniature's model is asked to draw for a training set of its own: creatures and scenes in its own words."""

from __future__ import annotations

from itertools import product

from ..data.vocabulary import Nouns, Vocabulary
from .captions import HUES, scene_prompt
from .evaluate import join
from .world import ACCESSORIES, BACKGROUNDS, KINDS, PATTERNS, PLACES, SIZES, STYLES, scene


def vocabulary() -> Vocabulary:
    """All kinds with patterns, pairs of colours and proportions, and every scene of the world."""
    pairs = tuple(f"{one} and {other}" for one, other in product(HUES, HUES) if one != other)
    where = join([scene(*words) for words in product(BACKGROUNDS, PLACES, SIZES, ACCESSORIES, STYLES)])
    prompts = [scene_prompt(where, row, [""]) for row in range(len(where))]
    return Vocabulary((Nouns(KINDS, (PATTERNS, pairs, ("wide", "narrow"))),), tuple((str(p[0]), str(p[-1])) for p in prompts))
