"""InstantBooth: the concept in the context, the adapter layers between the attentions, rows of other prompts, and the reading's file."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.errors import UserError
from hybridbooth_core.models.adapter import Written
from hybridbooth_core.models.sampling import generate, initial_noise
from hybridbooth_core.probe.instant import InstantBooth, owners
from hybridbooth_core.probe.learner import Features
from hybridbooth_core.probe.reading import Reading
from tests.probe.learners import adapter_for, random_features

T = torch.tensor([800, 300])


@pytest.fixture(scope="module")
def adapter(world, encoders) -> InstantBooth:
    return adapter_for(world, encoders)


@pytest.fixture(scope="module")
def reading(adapter, world, encoders) -> Reading:
    return Reading.of(adapter, world, random_features(encoders, 1), "cat")


def asked(world, prompts):
    noisy = torch.randn(len(prompts), 16, 8, 8, generator=torch.Generator().manual_seed(1))
    return world.predict_noise(noisy, T[: len(prompts)], world.encode_prompts(prompts).context)


def rows_of(features: Features, rows: list[int]) -> Features:
    return Features(features.clip[rows], features.dino[rows], features.latents[rows])


def test_a_written_piece_replaces_its_rows_of_the_context_alone(world):
    marker, rows = torch.randn(2, 96), torch.randn(2, 96)
    plain = world.encode_prompts([["a photo of a", marker, "cat"]])
    found = world.encode_prompts([["a photo of a", Written(marker, rows), "cat"]])
    assert found.columns.tolist() == plain.columns.tolist() == [[5, 6]]
    assert torch.equal(found.context[0, 5:7], rows)
    rest = [column for column in range(found.context.shape[1]) if column not in (5, 6)]
    assert torch.equal(found.context[:, rest], plain.context[:, rest])
    with pytest.raises(ValueError, match="same number"):
        world.encode_prompts([["a", Written(marker, rows)], ["a", marker[:1]]])


def test_mixed_pieces_find_their_own_columns(world):
    words, marker, rows = torch.randn(3, 96), torch.randn(1, 96), torch.randn(2, 1, 96)
    prompts = [["a", words, "and", Written(marker, row), "cat"] for row in rows]
    found = world.encode_prompts(prompts)
    assert torch.equal(found.context[torch.arange(2), found.columns[:, 3]], rows[:, 0])


def test_closed_gates_change_nothing_and_open_ones_do(world, encoders):
    pieces, found = ["a photo of a"], {}
    for gate in (0.0, 0.1):
        adapter = adapter_for(world, encoders, gate)
        reading = Reading.of(adapter, world, random_features(encoders, 1), "cat")
        with reading.applied(world) as named:
            found[gate] = asked(world, [[*pieces, *named, "on snow"]])
        plain = asked(world, [[*pieces, *named, "on snow"]])
        assert torch.equal(found[gate], plain) == (gate == 0)
    assert (found[0.1] - found[0.0]).abs().max() > 1e-3


def test_an_adapter_layer_is_its_formula(adapter):
    """In float64, with the attention of all of [y, W f_p], of which the cells' rows are taken."""
    layer = adapter.adapters[0]
    channels = layer.norm.normalized_shape[0]
    y, patches = torch.randn(2, 6, channels), torch.randn(2, 5, 96)
    w = {name: tensor.double() for name, tensor in layer.state_dict().items()}
    both = torch.cat([y.double(), patches.double() @ w["project.weight"].T + w["project.bias"]], 1)
    mean, spread = both.mean(-1, keepdim=True), both.var(-1, keepdim=True, correction=0)
    normed = (both - mean) / (spread + 1e-5).sqrt() * w["norm.weight"] + w["norm.bias"]
    q, k, v = (normed @ w[f"to_{name}.weight"].T for name in "qkv")
    heads = [slice(h * channels // 4, (h + 1) * channels // 4) for h in range(4)]
    mixed = torch.cat([torch.softmax(q[..., h] @ k[..., h].mT / (channels // 4) ** 0.5, -1) @ v[..., h] for h in heads], -1)
    expected = 0.3 * torch.tanh(10 * w["gate"]) * (mixed @ w["to_out.weight"].T + w["to_out.bias"])[:, :6]
    torch.testing.assert_close(layer(y, patches, 0.3).double(), expected, atol=1e-5, rtol=1e-4)


def test_the_layers_stand_between_self_and_cross_attention(adapter, world, reading):
    """What the cross-attention's norm reads is the residual stream after the self-attention plus what the layer adds."""
    name, layer = next(iter(adapter.config.blocks)), adapter.adapters[0]
    block, seen = world.unet.get_submodule(name), {}
    hooks = [block.norm2.register_forward_pre_hook(lambda module, args: seen.setdefault(len(seen), args[0].clone()))]
    try:
        with reading.applied(world) as pieces:
            prompt = ["a photo of a", *pieces]
            asked(world, [prompt])
        hooks.append(block.norm2.register_forward_pre_hook(lambda module, args: None))
        asked(world, [prompt])
    finally:
        for hook in hooks:
            hook.remove()
    # the first block's input is the same in both passes, so the difference at its second norm is the layer's
    torch.testing.assert_close(seen[0], seen[1] + layer(seen[1], reading.patches[None]), atol=1e-5, rtol=1e-4)


def test_rows_of_other_prompts_are_untouched(world, reading):
    with reading.applied(world) as pieces:
        prompts = [["a photo of a", *pieces, "on snow"], ["a photo of a cat on", world.token_embeddings("snow")]]
        both = asked(world, prompts)
    plain = asked(world, prompts)
    assert torch.equal(both[1], plain[1]) and not torch.equal(both[0], plain[0])


def test_who_owns_a_row(world):
    concepts, context = torch.randn(2, 8), torch.randn(4, 5, 8)
    context[1, 3], context[3, 0] = concepts[1], concepts[0]
    assert owners(context, concepts).tolist() == [-1, 1, -1, 0]


def test_a_batch_of_subjects_is_drawn_as_one_by_one(adapter, world, encoders):
    features = random_features(encoders, 2)
    predicted = adapter(features, torch.zeros(2, 1))
    prompts = adapter.prompts(predicted, [("a photo of a", "on snow")] * 2, ["cat", "fish"], world)
    noise = initial_noise(2, (16, 8, 8), 0)
    with adapter.applied(world, predicted):
        together = generate(world, prompts, noise, steps=3)
    for row, noun in enumerate(("cat", "fish")):
        one = Reading.of(adapter, world, rows_of(features, [row]), noun)
        with one.applied(world) as pieces:
            alone = generate(world, [["a photo of a", *pieces, "on snow"]], noise[row : row + 1], steps=3)
        torch.testing.assert_close(alone[0], together[row], atol=1e-3, rtol=1e-3)


def test_the_order_of_images_does_not_matter(adapter, world, encoders):
    features = random_features(encoders, 3)
    found = []
    for order in ([0, 1, 2], [2, 0, 1]):
        one = Reading.of(adapter, world, rows_of(features, order), "cat")
        assert one.patches.shape == (3 * 65, 96)
        with one.applied(world) as pieces:
            found.append(asked(world, [["a photo of a", *pieces]]))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


def test_strength_alpha_and_beta(world, reading):
    with reading.applied(world, 0.0) as pieces:
        assert pieces == ["cat"]
        at_zero = asked(world, [["a photo of a", *pieces]])
    assert torch.equal(at_zero, asked(world, [["a photo of a cat"]]))
    with reading.applied(world, 0.5, alpha=0.8) as pieces:
        torch.testing.assert_close(pieces[0].context[0], 0.4 * reading.concept)
    with reading.applied(world, beta=0.0) as pieces:
        silent = asked(world, [["a photo of a", *pieces]])
    assert torch.equal(silent, asked(world, [["a photo of a", *pieces]]))
    for bad in ({"strength": 2.1}, {"alpha": -1}, {"beta": 3}):
        with pytest.raises(UserError, match="from 0 to 2"), reading.applied(world, **bad):
            pass


def test_nothing_is_left_behind(world, reading):
    with pytest.raises(InterruptedError), reading.applied(world):
        raise InterruptedError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in world.unet.modules())


def test_a_reading_is_one_small_file(reading, adapter, world, tmp_path, refuses):
    path = tmp_path / "whiskers.safetensors"
    reading.save(path)
    found = Reading.load(path)
    assert found.info == reading.info and found.adapter is None
    torch.testing.assert_close(found.patches, reading.patches, atol=2e-3, rtol=2e-3)
    assert "needs the adapter" in refuses(lambda: found.applied(world).__enter__())
    assert found.with_adapter(adapter).adapter is adapter
    assert "another adapter" in refuses(found.with_adapter, adapter_for(world, SameWidths(), gate=0.2))
    assert "exists already" in refuses(reading.save, path)
    reading.save(path, overwrite=True)
    assert "should be [768]" in refuses(Reading.load, path, 768)


class SameWidths:
    """Encoders of the miniature's widths."""

    class clip:
        width = 96

    class dino:
        width = 96


def test_a_file_gives_the_adapter_back(adapter, encoders, tmp_path, refuses):
    path = tmp_path / "instant.safetensors"
    adapter.save(path, half=False)
    found = InstantBooth.load(path)
    assert found.config == adapter.config
    features = random_features(encoders, 1)
    assert torch.equal(found(features, torch.zeros(1, 1)), adapter(features, torch.zeros(1, 1)))
    assert "7 adapter layers" in found.about()


def test_blocks_are_found_by_name_not_by_order(adapter, world, encoders):
    shuffled = adapter_for(world, encoders, blocks=dict(reversed(adapter.config.blocks.items())))
    for place, name in enumerate(shuffled.config.blocks):
        shuffled.adapters[place].load_state_dict(adapter.adapters[list(adapter.config.blocks).index(name)].state_dict())
    for part in ("concept", "patches"):
        getattr(shuffled, part).load_state_dict(getattr(adapter, part).state_dict())
    found = []
    for one in (adapter, shuffled):
        reading = Reading.of(one, world, random_features(encoders, 1), "cat")
        with reading.applied(world) as pieces:
            found.append(asked(world, [["a photo of a", *pieces]]))
    assert torch.equal(*found)
    missing = adapter_for(world, encoders, blocks={"nowhere": 64})
    with pytest.raises(UserError, match="nowhere"), missing.applied(world, torch.zeros(1, 2, 96)):
        pass
