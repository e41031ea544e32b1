"""A subject predicted by a mapper."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from hybridbooth_core.encoders.features import reference, square_crops
from hybridbooth_core.mappers.mapper import Mapper
from hybridbooth_core.mappers.predict import mapper_subject

NOUN = torch.full((2, 768), 0.5)


class MeanColour(Mapper):
    """Predicts embeddings that start with the image's mean colour."""

    kind, source, licence = "phi", "a test", "CC0-1.0"

    def __init__(self, count: int, needs_noun: bool):
        super().__init__()
        self.count, self.needs_noun = count, needs_noun

    def embeddings(self, vision, images: Tensor) -> Tensor:
        assert images.shape[1:] == (vision.size, vision.size, 3)
        return torch.nn.functional.pad(images.mean((1, 2)), (0, 765))[:, None].repeat(1, self.count, 1)


@pytest.fixture
def model():
    def token_embeddings(text: str) -> Tensor:
        return NOUN[: len(text.split())]

    return SimpleNamespace(
        name="a model", family="stable-diffusion-v1", fingerprint="f" * 16, embedding_width=768, token_embeddings=token_embeddings
    )


@pytest.fixture
def ref():
    masks = torch.zeros(2, 40, 50)
    masks[:, 10:30, 5:25] = 1
    return reference(torch.rand(2, 40, 50, 3), masks)


VISION = SimpleNamespace(size=32)


def test_embeddings_are_averaged_over_the_crops_and_provenance_is_stored(model, ref):
    subject = mapper_subject(MeanColour(5, False), VISION, model, ref, "big cat")
    crops = square_crops(ref.images, ref.masks, 32)
    torch.testing.assert_close(subject.embeddings[:, :3], crops.mean((0, 1, 2)).expand(5, -1))
    info = subject.info
    assert (info.class_noun, info.method, info.probe, info.licence) == ("big cat", "mapper phi", "a test", "CC0-1.0")
    assert (info.base_model, info.base_fingerprint, info.images) == ("a model", "f" * 16, 2)


@pytest.mark.parametrize(("noun", "count"), [("", 1), ("cat", 2), ("  big cat ", 3)])
def test_a_single_word_is_followed_by_the_noun(noun, count, model, ref):
    subject = mapper_subject(MeanColour(1, True), VISION, model, ref, noun)
    assert subject.embeddings.shape == (count, 768) and torch.equal(subject.embeddings[1:], NOUN[: count - 1])
    assert subject.info.class_noun == noun.strip()


def test_another_base_model_is_refused(model, ref, refuses):
    model.embedding_width = 96
    assert "Stable Diffusion 1.5" in refuses(mapper_subject, MeanColour(1, True), VISION, model, ref)
