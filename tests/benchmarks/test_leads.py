"""The leads that are more than a setting of the refinement do what their names say."""

from types import SimpleNamespace

import torch

from benchmarks import leads


def test_prompts_name_the_photos_scene_around_the_embeddings(world):
    embeddings = torch.randn(5, 96)
    named = leads.ScenePrompts(world, ["a photo of a small", "", "on snow"])
    found, expected = (
        named.encode_prompts([["a photo of", embeddings]]),
        world.encode_prompts([["a photo of a small", embeddings, "on snow"]]),
    )
    assert torch.equal(found.context, expected.context) and named.schedule is world.schedule


def test_kept_norms_are_those_of_the_prediction():
    start, found = torch.randn(5, 96), 3 * torch.randn(5, 96)
    case = SimpleNamespace(refined=lambda config: SimpleNamespace(embeddings=found, start=start))
    (embeddings,) = leads.norms_kept(case)
    torch.testing.assert_close(embeddings.norm(dim=1), start.norm(dim=1))
    torch.testing.assert_close(torch.nn.functional.cosine_similarity(embeddings, found), torch.ones(5))


def test_the_promising_leads_are_leads():
    assert set(leads.PROMISING) <= set(leads.LEADS)
