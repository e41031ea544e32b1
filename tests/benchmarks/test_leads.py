"""The leads that are more than a setting of the refinement do what their names say."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "leads.py"


@pytest.fixture(scope="module")
def leads():
    pytest.importorskip("diffusers")
    spec = importlib.util.spec_from_file_location("leads", SCRIPT)
    assert spec and spec.loader
    module = sys.modules["leads"] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def test_a_told_model_says_the_photos_scene_around_the_words(leads, world):
    embeddings = torch.randn(5, 96)
    told = leads.Told(world, ["a photo of a small", "", "on snow"])
    found, expected = (
        told.encode_prompts([["a photo of", embeddings]]),
        world.encode_prompts([["a photo of a small", embeddings, "on snow"]]),
    )
    assert torch.equal(found.context, expected.context) and told.schedule is world.schedule


def test_held_lengths_are_those_of_the_guess(leads):
    start, found = torch.randn(5, 96), 3 * torch.randn(5, 96)
    case = SimpleNamespace(refined=lambda config: SimpleNamespace(embeddings=found, start=start))
    (embeddings,) = leads.lengths_held(case)
    torch.testing.assert_close(embeddings.norm(dim=1), start.norm(dim=1))
    torch.testing.assert_close(torch.nn.functional.cosine_similarity(embeddings, found), torch.ones(5))


def test_the_promising_leads_are_leads(leads):
    assert set(leads.PROMISING) <= set(leads.LEADS)
