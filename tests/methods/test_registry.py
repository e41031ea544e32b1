"""The one call for all systems, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.cli import parser
from hybridbooth_core.methods.custom_diffusion import CustomDiffusionConfig
from hybridbooth_core.methods.dreambooth import DreamBoothConfig, DreamBoothLoraConfig
from hybridbooth_core.methods.registry import METHODS, run_method
from hybridbooth_core.methods.textual_inversion import TextualInversionConfig
from hybridbooth_core.refine.personalize import personalize
from hybridbooth_core.refine.refine import RefineConfig


@pytest.fixture
def parts(world, subject, new_probe):
    return {"model": world, "ref": subject.ref, "class_noun": "cat", "probe": new_probe(), "features": subject.features}


def test_hybridbooth_is_personalize_at_every_number_of_steps(parts):
    made = run_method("hybridbooth", **parts, steps=3, keep=(1,), rate=1e-3, seed=5, batch=4)
    assert sorted(made.artefacts) == [1, 3] and len(made.losses) == 3
    for steps, found in made.artefacts.items():
        config = RefineConfig(steps=steps, step_size=1e-3, seed=5, batch=4)
        expected = personalize(parts["model"], parts["probe"], parts["ref"], parts["features"], "cat", config).subject
        assert torch.equal(found.embeddings, expected.embeddings) and found.info == expected.info


@pytest.mark.parametrize("keep", [(4,), (-1, 2)])
def test_hybridbooth_keeps_no_more_than_it_runs(parts, keep, refuses):
    assert "from 0 to 3" in refuses(run_method, "hybridbooth", **parts, steps=3, keep=keep)


def test_regression_is_the_probes_guess(parts, subject):
    made = run_method("regression", **parts, steps=0)
    with torch.no_grad():
        guess = parts["probe"](subject.features, subject.noun).mean(0)
    assert list(made.artefacts) == [0]
    torch.testing.assert_close(made.artefact.embeddings, guess)


@pytest.mark.parametrize("given", [{"steps": 3}, {"steps": 0, "rate": 0.1}, {"steps": 0, "keep": (1,)}])
def test_regression_has_no_steps(parts, given, refuses):
    assert "no steps" in refuses(run_method, "regression", **parts, **given)


def test_textual_inversion_starts_from_the_class_word_and_learns(model, ref):
    made = run_method("textual_inversion_5", model, ref, "cat", steps=1, rate=1e-9)
    torch.testing.assert_close(made.artefact.embeddings, model.token_embeddings("cat").repeat(5, 1))
    made = run_method("textual_inversion", model, ref, "cat", steps=40, rate=3e-2, batch=16)
    assert made.artefact.embeddings.shape == (1, 24)
    assert sum(made.losses[-10:]) < sum(made.losses[:10])
    assert (made.artefact.info.method, made.artefact.info.steps, made.artefact.info.class_noun) == ("textual_inversion", 40, "cat")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_refuses_what_it_does_not_have(name, parts, refuses):
    message = refuses(run_method, name, **parts, steps=1, wings=2)
    assert "wings" in message and all(option in message for option in METHODS[name].options)


def test_options_are_those_of_the_method(parts, refuses):
    assert "rank" in METHODS["dreambooth_lora"].options and "num_tokens" in METHODS["textual_inversion"].options
    for name, option in (("dreambooth", "rank"), ("textual_inversion_5", "num_tokens"), ("regression", "mode"), ("hybridbooth", "token")):
        assert option in refuses(run_method, name, **parts, steps=1, **{option: 2})


@pytest.mark.parametrize("name", ["hybridbooth", "regression"])
def test_a_probe_is_asked_for(name, model, ref, refuses):
    assert "probe" in refuses(run_method, name, model, ref, "cat", steps=0)


def test_an_unknown_method_is_told_the_known_ones(model, ref, refuses):
    assert "dreambooth_lora" in refuses(run_method, "elite", model, ref, "cat", steps=1)


@pytest.mark.parametrize("config", [TextualInversionConfig, DreamBoothConfig, DreamBoothLoraConfig, CustomDiffusionConfig])
@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"batch": 0}, {"keep": (0,)}, {"keep": (3, 10**5)}]
)
def test_numbers_that_make_no_sense_are_refused(config, wrong, refuses):
    refuses(config, **wrong)


def test_numbers_of_single_methods_that_make_no_sense_are_refused(refuses):
    assert "words" in refuses(TextualInversionConfig, num_tokens=0)
    assert "rank" in refuses(DreamBoothLoraConfig, rank=0)
    assert "class images" in refuses(DreamBoothConfig, prior_images=0)
    assert "weight" in refuses(CustomDiffusionConfig, prior_weight=-1)


@pytest.mark.parametrize("name", ["textual_inversion", "dreambooth", "custom_diffusion"])
def test_a_class_noun_is_asked_for(name, model, ref, refuses):
    assert "class noun" in refuses(run_method, name, model, ref, " ", steps=1)


def test_a_token_that_the_model_cannot_read_is_refused(world, subject, refuses):
    assert "'dinosaur'" in refuses(run_method, "dreambooth", world, subject.ref, "cat", steps=1, token="dinosaur")


def test_a_loss_that_is_not_finite_is_one_sentence(model, ref, refuses, monkeypatch):
    monkeypatch.setattr("hybridbooth_core.methods.training.denoising_loss", lambda *a: torch.full((1,), float("nan"), requires_grad=True))
    assert "learning rate" in refuses(run_method, "textual_inversion", model, ref, "cat", steps=2, batch=1)


def test_the_command_offers_them_all():
    """With every option of theirs, and under their old names."""
    for name, method in METHODS.items():
        for option in method.options:
            values = ["1", "2"] if option in ("times", "subspace") else ["all"] if option == "targets" else ["1"]
            given = parser().parse_args(
                ["personalize", "a.png", "--out", "a.safetensors", "--method", name, f"--{option.replace('_', '-')}", *values]
            )
            assert getattr(given, option) is not None
    assert parser().parse_args(["personalize", "a.png", "--out", "a.safetensors", "--method", "regression"]).method == "regression"
