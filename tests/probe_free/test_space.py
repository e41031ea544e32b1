"""Text embeddings, against transformers' text encoder on token ids."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.probe_free import space as module
from hybridbooth_core.probe_free.space import encode_texts


def test_a_text_embedding_is_the_projected_state_at_the_end_token(world, space):
    texts = ["a photo of a cat", "a", "a sketch of a red striped robot with a hat on snow"]
    points = encode_texts(world, space.project_text, [[text] for text in texts])
    tokenizer = world.tokenizer
    for text, point in zip(texts, points, strict=True):
        ids = torch.tensor(
            [[tokenizer.start, *tokenizer.encode(text), tokenizer.end]]
        )  # no padding: the state at the end does not depend on it
        state = world.text_encoder(ids).last_hidden_state[0, -1]
        torch.testing.assert_close(point, state @ space.project_text.weight.T, atol=1e-5, rtol=1e-4)


def test_token_embeddings_in_prompts_get_gradients(world, space):
    embeddings = world.token_embeddings("striped cat").requires_grad_(True)
    points = encode_texts(world, space.project_text, [["a photo of a", embeddings], ["a", embeddings]])
    plain = encode_texts(world, space.project_text, [["a photo of a striped cat"], ["a striped cat"]])
    torch.testing.assert_close(points, plain, atol=1e-5, rtol=1e-4)
    points.sum().backward()
    assert embeddings.grad is not None and bool((embeddings.grad.norm(dim=1) > 0).all())


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_the_batch_size_changes_nothing(batch, world, space, monkeypatch):
    prompts = [[word] for word in ("cat", "red robot", "fish")]
    wanted = encode_texts(world, space.project_text, prompts)
    monkeypatch.setattr(module, "BATCH", batch)
    torch.testing.assert_close(encode_texts(world, space.project_text, prompts), wanted, atol=1e-5, rtol=1e-4)
