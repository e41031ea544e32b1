"""Retrieval: which words are used, how they are ranked, and accuracy in the miniature."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hybridbooth_core.encoders.features import square_crops
from hybridbooth_core.probe_free import words
from hybridbooth_core.probe_free.nouns import TEMPLATES, image_embedding, known_texts, retrieve, single_words, text_embeddings
from hybridbooth_core.probe_free.space import encode_texts


def test_the_lists_contain_single_distinct_words():
    for kind in (words.NOUNS, *words.ATTRIBUTES.values()):
        assert len(set(kind)) == len(kind) and all(word.isalpha() and word == word.lower() for word in kind)
    assert 300 <= len(words.NOUNS) <= 500 and [len(kind) >= 40 for kind in words.ATTRIBUTES.values()] == [True] * 3


def test_only_words_of_one_token_are_used(world):
    assert single_words(world, ["cat", "zebra", "striped cat", "red", "cat"]) == ["cat", "red"]
    assert known_texts(world, ["striped cat", "zebra", ""]) == ["striped cat"]
    assert known_texts(world, TEMPLATES) == ["a photo of a", "a photo of", "a photo of the"]


def test_an_ensemble_is_the_mean_of_unit_vectors_in_float64(world, space):
    found = text_embeddings(world, space, ["cat", "red fish"])
    for phrase, point in zip(["cat", "red fish"], found, strict=True):
        each = encode_texts(
            world, space.project_text, [[f"{t} {phrase}"] for t in ("a photo of a", "a photo of", "a photo of the")]
        ).double()
        mean = (each / each.square().sum(1, keepdim=True).sqrt()).mean(0)
        torch.testing.assert_close(point.double(), mean / mean.square().sum().sqrt(), atol=1e-5, rtol=1e-4)


def test_ranking_subtracts_the_mean_text(world, space):
    nouns = ["cat", "robot", "fish", "rabbit"]
    points = text_embeddings(world, space, nouns).double()
    image = F.normalize(torch.randn(12), dim=0)
    centred = points - points.mean(0)
    scores = (centred / centred.norm(dim=1, keepdim=True)) @ image.double()
    found = retrieve(world, space, image, attributes=0, nouns=nouns, attribute_words={})
    best = scores.argsort(descending=True).tolist()
    assert [found.noun, *(r.word for r in found.others)] == [nouns[i] for i in best]
    assert found.noun_score == pytest.approx(scores.max().item(), abs=1e-5)
    assert found.attributes == () and nouns[best[0]] in found.report()


def test_attributes_are_at_most_two_of_a_kind_and_above_average(world, space):
    looks = {"colour": ("red", "blue", "green", "teal", "pink"), "shape": ("wide", "narrow")}
    image = F.normalize(torch.randn(12), dim=0)
    found = retrieve(world, space, image, "cat", attributes=4, attribute_words=looks)
    assert found.noun == "cat" and found.noun_score is None and "class noun: cat\n" in found.report()
    kinds = [next(kind for kind, of_kind in looks.items() if r.word in of_kind) for r in found.attributes]
    assert kinds and all(kinds.count(kind) <= 2 for kind in kinds)
    scores = [r.score for r in found.attributes]
    assert scores == sorted(scores, reverse=True) and min(scores) > 0
    assert retrieve(world, space, image, "cat", attributes=1, attribute_words=looks).attributes == found.attributes[:1]


def test_a_model_that_knows_no_noun_is_refused(world, space, refuses):
    assert "enter a class noun" in refuses(retrieve, world, space, torch.ones(12), nouns=["zebra"])


def test_the_mean_text_is_over_all_attributes(world, space):
    def mean(looks: dict, attributes: int = 2):
        return retrieve(world, space, torch.ones(12), "cat", attributes, attribute_words=looks).mean_text

    looks = {"colour": ("red", "zebra"), "shape": ("wide",)}
    torch.testing.assert_close(mean(looks), text_embeddings(world, space, ["red cat", "wide cat"]).mean(0))
    torch.testing.assert_close(mean({}), text_embeddings(world, space, ["cat"])[0])
    assert mean(looks, 0) is None


def test_an_image_embedding_is_the_mean_of_unit_vectors(space):
    crops = torch.rand(2, 64, 64, 3)
    each = space.images(crops).double()
    mean = (each / each.norm(dim=1, keepdim=True)).mean(0)
    torch.testing.assert_close(image_embedding(space, crops).double(), mean / mean.norm(), atol=1e-5, rtol=1e-4)


def test_in_the_miniature_most_nouns_are_found(shipped):
    points = [image_embedding(shipped.space, square_crops(ref.images, ref.masks, 64)) for ref in shipped.refs]
    found = [retrieve(shipped.model, shipped.space, point, attributes=0).noun for point in points]
    assert sum(a == b for a, b in zip(found, shipped.nouns, strict=True)) >= 5, (found, shipped.nouns)  # of 8, among 8 nouns
