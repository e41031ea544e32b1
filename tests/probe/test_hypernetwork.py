"""The hypernetwork: its iterations, its file, and that its weights act as Lightweight DreamBooth."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hybridbooth_core.errors import UserError
from hybridbooth_core.files.adapter_weights import NUMBERS, AdapterWeights
from hybridbooth_core.models.lidb import LiDBSpace, lidb_layers
from hybridbooth_core.probe.hypernetwork import SCALE, Hypernetwork
from tests.probe.learners import hypernetwork_for, random_features


@pytest.fixture(scope="module")
def network(world, encoders) -> Hypernetwork:
    return hypernetwork_for(world, encoders)


def test_a_new_one_predicts_nearly_nothing(world, encoders):
    from hybridbooth_core.miniature.training.learners import new_learner

    network = new_learner("hypernetwork", world, encoders.clip, encoders.dino, 0).eval()
    found = network(random_features(encoders, 2), torch.zeros(2, 1))
    assert found.shape == (2, 56, 48) and 0 < found.abs().max() < 0.05


def test_iterations_read_the_image_once_and_add_up(network, encoders, monkeypatch):
    features, calls = random_features(encoders, 2), []
    plain = type(network.merge).forward
    monkeypatch.setattr(type(network.merge), "forward", lambda self, *args: calls.append(1) or plain(self, *args))
    theta = torch.zeros(2, 56, 48)
    for _ in range(3):  # the formula, plainly
        x = network.positions.weight + network.again(theta)
        for layer in network.decoder:
            x = layer(x, network.merge(features.clip, features.dino))
        heads = network.heads.weight.view(56, 128, 48)
        theta = theta + SCALE * torch.stack([network.out_norm(x)[:, m] @ heads[m] for m in range(56)], 1)
    calls.clear()
    object.__setattr__(network.config, "iterations", 3)
    try:
        torch.testing.assert_close(network(features, torch.zeros(2, 1)), theta, atol=1e-5, rtol=1e-5)
    finally:
        object.__setattr__(network.config, "iterations", 2)
    assert len(calls) == 1


def test_training_draws_the_number_of_iterations(network, encoders):
    features = random_features(encoders, 1)
    network.train()
    try:
        assert len({network(features, torch.zeros(1, 1)).sum().item() for _ in range(20)}) == 2
    finally:
        network.eval()
    assert len({network(features, torch.zeros(1, 1)).sum().item() for _ in range(5)}) == 1


def test_a_batch_acts_as_its_subjects_one_by_one(network, world, encoders):
    predicted = network(random_features(encoders, 2), torch.zeros(2, 1))
    noisy, t = torch.randn(2, 16, 8, 8), torch.tensor([800, 300])
    prompts = network.prompts(predicted, [("a photo of a", "on snow")] * 2, ["cat", "fish"], world)
    assert prompts == [["a photo of a picture cat on snow"], ["a photo of a picture fish on snow"]]
    context = world.encode_prompts(prompts).context
    with network.applied(world, predicted):
        together = world.predict_noise(noisy, t, context)
    plain = world.predict_noise(noisy, t, context)
    assert (together - plain).abs().max() > 0.01
    for row in range(2):
        made = network.predict(world, random_features(encoders, 2), "cat")
        space = LiDBSpace.of(lidb_layers(world, "unet"), 32, 16)
        alone = AdapterWeights({NUMBERS: space.start() + predicted[row]}, made.info)
        with alone.applied(world):
            found = world.predict_noise(noisy[row : row + 1], t[row : row + 1], context[row : row + 1])
        torch.testing.assert_close(found[0], together[row], atol=1e-4, rtol=1e-4)
    assert torch.equal(world.predict_noise(noisy, t, context), plain), "nothing is left behind"


def test_several_images_are_averaged(network, world, encoders):
    features = random_features(encoders, 3)
    made = network.predict(world, features, " cat")
    expected = LiDBSpace.of(lidb_layers(world, "unet"), 32, 16).start() + network(features, torch.zeros(3, 1)).mean(0)
    torch.testing.assert_close(made.tensors[NUMBERS], expected)
    assert (made.info.form, made.info.token, made.info.images, made.info.subspace) == ("lidb", "picture", 3, (32, 16))


def test_a_file_gives_it_back(network, encoders, tmp_path):
    network.save(tmp_path / "hyper.safetensors", half=False)
    found = Hypernetwork.load(tmp_path / "hyper.safetensors")
    assert found.config == network.config and not found.training
    features = random_features(encoders, 1)
    assert torch.equal(found(features, torch.zeros(1, 1)), network(features, torch.zeros(1, 1)))
    assert "56 matrices of 48 numbers" in found.about() and "miniature/clip@1" in found.about()


@pytest.mark.parametrize(
    ("change", "said"),
    [({"matrices": 0}, "matrices"), ({"heads": 3}, "damaged"), ({"subspace": [32]}, "two numbers"), ({"subspace": ["a", 2]}, "expected a"),
     ({"basis": "other"}, "subspace"), ({"targets": "all of them"}, "layers"), ({"token": 3}, "token"), ({"unknown": 1}, "damaged"),
     ({"width": None}, "width"), ({"clip": []}, "clip"), ({"iterations": 10**6}, "iterations"), ({"matrices": 57}, "should be")],
)  # fmt: skip
def test_damaged_configurations_are_one_sentence(network, tmp_path, change, said, refuses):
    path = tmp_path / "hyper.safetensors"
    network.save(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    metadata["config"] = json.dumps({**json.loads(metadata["config"]), **change})
    save_file(load_file(path), path, metadata)
    assert said in refuses(Hypernetwork.load, path)


def test_other_files_are_refused(network, tmp_path, refuses, encoders, world):
    from tests.probe.learners import adapter_for

    path = tmp_path / "other.safetensors"
    adapter_for(world, encoders).save(path)
    assert "no hypernetwork of this program, but a hybridbooth.instantbooth" in refuses(Hypernetwork.load, path)
    path.write_bytes(b"nothing")
    refuses(Hypernetwork.load, path)


def test_another_model_is_refused(network, world, encoders):
    other = hypernetwork_for(world, encoders, family="stable-diffusion-v1", base_model="SD")
    with pytest.raises(UserError, match="made for SD"):
        other.predict(world, random_features(encoders, 1), "cat")
