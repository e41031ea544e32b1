"""Inversion: its step on the sphere, its loss, and that it approaches an image."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from hybridbooth_core.probe_free.inversion import CONTEXTS, InversionConfig, invert, sphere_step
from hybridbooth_core.probe_free.nouns import text_embeddings
from hybridbooth_core.probe_free.space import encode_texts


def test_a_step_keeps_norms_and_has_the_size_of_the_rate():
    embeddings, gradient, rate = torch.randn(4, 6).double() * 3, torch.randn(4, 6).double(), 0.01
    after = sphere_step(embeddings, gradient, rate)
    torch.testing.assert_close(after.norm(dim=1), embeddings.norm(dim=1))
    angles = torch.acos(F.cosine_similarity(embeddings, after))
    assert angles.square().mean().sqrt().item() == pytest.approx(rate, rel=1e-3)
    across = gradient - (gradient * embeddings).sum(1, keepdim=True) * embeddings / embeddings.square().sum(1, keepdim=True)
    assert bool(((after - embeddings) * across).sum(1).lt(0).all())
    torch.testing.assert_close(sphere_step(embeddings, gradient * 1e6, rate), after)


def test_a_zero_or_nan_gradient_changes_nothing():
    embeddings = torch.randn(3, 5)
    for gradient in (torch.zeros(3, 5), torch.full((3, 5), float("nan"))):
        assert torch.equal(sphere_step(embeddings, gradient, 0.1), embeddings)


@pytest.mark.parametrize("context", [0.0, 2.0])
def test_the_loss_is_its_formula_in_float64(context, world, space):
    embeddings, point = world.token_embeddings("red striped cat") + 0.1, F.normalize(torch.randn(12), dim=0)
    mean = text_embeddings(world, space, ["red cat", "wide cat", "striped cat"]).mean(0)
    found = invert(world, space, point, embeddings, "cat", mean, InversionConfig(steps=0, context=context))
    texts = encode_texts(world, space.project_text, [[t, embeddings] for t in ("a photo of a", "a photo of", "a photo of the")]).double()
    centred = texts / texts.norm(dim=1, keepdim=True) - mean.double()
    wanted = 1 - (centred @ point.double() / centred.norm(dim=1)).mean().item()
    if context:
        ours, noun = (encode_texts(world, space.project_text, [[a, w, b] for a, b in CONTEXTS]).double() for w in (embeddings, "cat"))
        wanted += context * (1 - F.cosine_similarity(ours, noun)).mean().item()
    assert found.losses == [pytest.approx(wanted, abs=1e-5)] and torch.equal(found.embeddings, embeddings)


def test_embeddings_approach_the_image_and_keep_their_norms(world, space, state_of):
    start, point = world.token_embeddings("cat").expand(3, -1).clone(), F.normalize(torch.randn(12), dim=0)
    mean, before, seen = text_embeddings(world, space, ["red cat", "wide cat", "striped cat"]).mean(0), state_of(world.text_encoder), []
    config = InversionConfig(steps=8, rate=0.1)
    found = invert(world, space, point, start, "cat", mean, config, seen.append)
    assert found.losses[-1] < found.losses[0] - 0.01 and len(found.losses) == 9
    torch.testing.assert_close(found.embeddings.norm(dim=1), start.norm(dim=1))
    assert [(step.done, step.steps) for step in seen] == [(i + 1, 8) for i in range(8)] and all(math.isfinite(step.loss) for step in seen)
    again = invert(world, space, point, start, "cat", mean, config)
    assert torch.equal(again.embeddings, found.embeddings) and not found.embeddings.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in state_of(world.text_encoder).items())


def test_the_context_term_keeps_the_subject_behaving_like_its_noun(world, space):
    start, point = world.token_embeddings("cat"), F.normalize(torch.randn(12), dim=0)
    mean = text_embeddings(world, space, ["red cat", "wide cat", "striped cat"]).mean(0)

    def agreement(weight: float) -> float:
        embeddings = invert(world, space, point, start, "cat", mean, InversionConfig(8, 0.1, weight)).embeddings
        ours, noun = (encode_texts(world, space.project_text, [[a, w, b] for a, b in CONTEXTS]) for w in (embeddings, "cat"))
        return F.cosine_similarity(ours, noun).mean().item()

    assert agreement(10.0) > agreement(0.0) + 0.001


@pytest.mark.parametrize("bad", [{"steps": -1}, {"steps": 1001}, {"rate": 0.0}, {"rate": 1.5}, {"context": -1.0}])
def test_invalid_options_are_refused(bad, refuses):
    refuses(InversionConfig, **bad)
