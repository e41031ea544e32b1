"""Class images: drawn once, by the base, the same for every subject of a class."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.methods.prior_images import CHUNK, Prior
from hybridbooth_core.methods.registry import run_method
from hybridbooth_core.models.sampling import generate, initial_noise


def test_they_are_the_bases_own_images_of_the_class(model):
    found = Prior(model, seed=3, steps=2, guidance=2.0).latents("cat", 2)
    images = generate(model, [["a photo of a cat"]] * 2, initial_noise(2, (4, 8, 8), 3), 2, 2.0)
    torch.testing.assert_close(found, model.encode_image(images))


def test_more_are_drawn_when_needed_and_none_twice(model, monkeypatch):
    drawn = []

    def counted(model, prompts, *arguments):
        drawn.append(len(prompts))
        return generate(model, prompts, *arguments)

    monkeypatch.setattr("hybridbooth_core.methods.prior_images.generate", counted)
    prior, told = Prior(model, steps=1), []
    few = prior.latents("cat", 3, lambda there, count: told.append((there, count)))
    assert drawn == [3] and told == [(3, 3)]
    more = prior.latents(" cat ", CHUNK + 5)
    assert drawn == [3, CHUNK, 2] and len(more) == CHUNK + 5
    torch.testing.assert_close(more[:3], few)
    torch.testing.assert_close(prior.latents("cat", 2), few[:2])
    assert drawn == [3, CHUNK, 2]
    other = prior.latents("fish", 1)
    assert drawn == [3, CHUNK, 2, 1] and not torch.allclose(other, few[:1], atol=1e-3)
    at_once = Prior(model, steps=1).latents("cat", CHUNK + 5)
    torch.testing.assert_close(more, at_once, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(at_once[0], at_once[3], atol=1e-3)


def test_an_interruption_keeps_what_is_drawn(model):
    prior = Prior(model, steps=1)

    def stop(there, count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prior.latents("cat", CHUNK + 1, stop)
    assert len(prior._kept["cat"]) == CHUNK


def test_without_weight_no_class_image_is_drawn(model, ref):
    prior = Prior(model)
    run_method("dreambooth_lora", model, ref, "cat", steps=1, prior=prior, prior_weight=0)
    assert not prior._kept


def test_class_images_of_another_model_are_a_mistake_of_the_caller(model, world, ref):
    with pytest.raises(ValueError, match="class images"):
        run_method("dreambooth", model, ref, "cat", steps=1, prior=Prior(world))
