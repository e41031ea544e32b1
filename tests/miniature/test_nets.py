"""The miniature's networks: shapes and properties of their outputs."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.miniature.judging import targets
from hybridbooth_core.miniature.nets import Autoencoder, ImageEncoder, Judge
from hybridbooth_core.miniature.world import creatures, random_scenes, split_numbers


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 64, 64, 3)


@pytest.mark.parametrize("size", [(64, 64), (64, 128), (128, 72)], ids=str)
def test_the_autoencoder_accepts_sizes_of_whole_cells(size):
    coder = Autoencoder().eval()
    latents = coder.encode(torch.rand(2, *size, 3))
    assert latents.shape == (2, 16, size[0] // 8, size[1] // 8)
    decoded = coder.decode(latents)
    assert decoded.shape == (2, *size, 3) and decoded.min() >= 0 and decoded.max() <= 1
    assert coder.decode(100 * latents).max() <= 1


@pytest.mark.parametrize("shape", [(64, 64, 3), (1, 3, 64, 64), (1, 60, 64, 3), (1, 64, 60, 3), (1, 64, 64, 4)])
def test_the_autoencoder_refuses_other_sizes(shape):
    with pytest.raises(ValueError, match="divisible by 8"):
        Autoencoder().encode(torch.zeros(shape))


def test_latents_are_normalised_by_running_statistics(images):
    coder = Autoencoder()
    latents = coder.train().encode(images)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3), unbiased=False), torch.ones(16), atol=0.05, rtol=0)
    for _ in range(200):
        coder.encode(images)
    torch.testing.assert_close(coder.eval().encode(images), latents, atol=0.05, rtol=0.05)


def test_encoding_in_eval_mode_changes_nothing(images, state_of):
    coder = Autoencoder().eval()
    before = state_of(coder)
    coder.decode(coder.encode(images))
    assert all(torch.equal(value, before[key]) for key, value in state_of(coder).items())


def test_an_image_encoders_class_token_is_the_mean(images):
    encoder = ImageEncoder(width=64, projection=32).eval()
    tokens = encoder(images)
    assert tokens.shape == (4, 65, 64) and encoder.width == 64 and encoder.size == 64
    vectors = encoder.embed(images)
    assert vectors.shape == (4, 32)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(vectors, torch.nn.functional.normalize(encoder.projection(tokens[:, 0]), dim=-1))
    torch.testing.assert_close(encoder(images[1:2]), tokens[1:2], atol=1e-5, rtol=1e-4)


def test_a_patch_token_depends_on_its_patch():
    encoder = ImageEncoder().eval()
    one = torch.full((1, 64, 64, 3), 0.5)
    other = one.clone()
    other[:, :4, :4] = 1  # upper left
    change = (encoder(one) - encoder(other)).abs().amax(-1)[0, 1:].view(8, 8)
    assert change[0, 0] > 0 and change[6:, 6:].max() < 0.05 * change.max()


def test_the_judge_has_a_head_for_every_attribute_of_the_truth(images):
    outputs = Judge().eval()(images)
    truth = targets(creatures(split_numbers("tune", 400)), random_scenes(400, torch.Generator().manual_seed(0)))
    assert set(outputs) == set(truth) == set(Judge.HEADS)
    for name, out in outputs.items():
        assert out.shape == (4, Judge.HEADS[name])
        if truth[name].ndim == 1:
            assert truth[name].unique().tolist() == list(range(Judge.HEADS[name])), name
        else:
            assert truth[name].shape == (400, Judge.HEADS[name])


def test_every_head_of_the_judge_has_its_own_output(images):
    judge = Judge()
    outputs = judge(images)
    bias = judge.read[-1].bias
    seen = torch.zeros(len(bias))
    for out in outputs.values():
        (gradient,) = torch.autograd.grad(out.sum(), bias, retain_graph=True)
        seen += gradient / len(images)
    torch.testing.assert_close(seen, torch.ones(len(bias)))
