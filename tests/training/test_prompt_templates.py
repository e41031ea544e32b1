"""Prompt templates match the targets that they describe."""

from collections import Counter

import pytest
import torch

from hybridbooth_core.refine.captions import TEMPLATES
from hybridbooth_core.training.config import Data
from hybridbooth_core.training.prompt_templates import COLOURS, EMBEDDINGS_ONLY, NEUTRAL, photo_prompt

IMAGE = torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([0.0, 0.25, 1.0, 1.0]).expand(4, 4)


def drawn(count=600, image=IMAGE, mask=MASK, **shares):
    generator = torch.Generator().manual_seed(0)
    return [photo_prompt(Data(**shares), generator, image, mask) for _ in range(count)]


def test_templates_are_as_frequent_as_configured():
    templates = [template for template, _ in drawn(2000, neutral=0.5, condition_drop=0.2)]
    kinds = Counter("alone" if one == EMBEDDINGS_ONLY else "said" if one[1] else "neutral" for one in templates)
    assert kinds["alone"] / 2000 == pytest.approx(0.2, abs=0.03)
    assert kinds["said"] / 2000 == pytest.approx(0.4, abs=0.04) == kinds["neutral"] / 2000


def test_the_colour_that_is_named_is_behind_the_subject():
    names = Counter()
    for (before, after), image in drawn(neutral=0, condition_drop=0):
        name = after.removeprefix("on a ").removesuffix(" background")
        names[name] += 1
        colour = torch.tensor(COLOURS[name])
        assert before in NEUTRAL and torch.equal(image[:, 2:], IMAGE[:, 2:])
        torch.testing.assert_close(image[:, 0], colour.expand(4, 3))
        torch.testing.assert_close(image[:, 1], 0.25 * IMAGE[:, 1] + 0.75 * colour)
    assert names.keys() == COLOURS.keys() and min(names.values()) > 40


def test_what_is_not_said_is_not_done():
    shown = [*drawn(neutral=0, condition_drop=1), *drawn(neutral=1, condition_drop=0.5), *drawn(neutral=0, condition_drop=0, mask=None)]
    assert all(after == "" and image is IMAGE for (_, after), image in shown)
    assert {sentence for sentence, _ in shown} == {EMBEDDINGS_ONLY, *((before, "") for before in NEUTRAL)}
    assert all(after == "" and image is None for (_, after), image in drawn(neutral=0, image=None, mask=None))


def test_templates_of_the_refinement_are_among_those_of_training():
    assert {template for (template,) in TEMPLATES} <= set(NEUTRAL)
