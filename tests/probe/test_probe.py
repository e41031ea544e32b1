"""Probe files: both kinds load equal to what was saved; damaged, absurd or newer files are refused with one sentence."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hybridbooth_core.probe.probe import Features, Probe, ProbeConfig

BASE = {"width": 16, "clip": "c@1", "clip_width": 8, "dino": "d@1", "dino_width": 12, "regressor": "resampler",
        "sizes": {"layers": 1, "heads": 2}}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "probe.safetensors"


@pytest.fixture
def features() -> Features:
    return Features(torch.randn(2, 65, 96), torch.randn(2, 65, 96), torch.randn(2, 16, 8, 8))


def rewrite(path, config=None, **metadata) -> None:
    """Replaces metadata of the file (None removes an entry) and its configuration (a string is written unchanged)."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        old = file.metadata()
    if config is not None:
        metadata["config"] = config if isinstance(config, str) else json.dumps(config)
    save_file(load_file(path), path, metadata={k: v for k, v in (old | metadata).items() if v is not None})


@pytest.mark.parametrize("kind", ["promptnet", "resampler"])
@pytest.mark.parametrize("half", [True, False])
def test_a_saved_probe_loads_equal_and_frozen(path, kind, half, new_probe, features):
    probe, noun = new_probe(kind), torch.randn(96)
    probe.save(path, half=half)
    loaded = Probe.load(path)
    assert loaded.config == probe.config
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    for name, tensor in probe.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float() if half else tensor), name
    expected = probe(features, noun)
    torch.testing.assert_close(loaded(features, noun), expected, atol=0.02 if half else 0, rtol=0)


@pytest.mark.parametrize("kind", ["promptnet", "resampler"])
def test_only_the_last_token_starts_from_the_noun(kind, new_probe, features):
    probe, nouns = new_probe(kind), torch.randn(2, 96)
    bare = probe(features, torch.zeros(96))
    full = probe(features, nouns)
    assert bare.shape == (2, 5, 96)
    assert torch.equal(full[:, :-1], bare[:, :-1])
    torch.testing.assert_close(full[:, -1], bare[:, -1] + nouns)
    assert torch.equal(probe(features, nouns[:1].expand(2, -1)), probe(features, nouns[0])), "one noun for all images"


def test_outputs_scale_with_the_vocabulary(new_probe, features):
    one, three = new_probe(embedding_norm=1.0), new_probe(embedding_norm=3.0)
    torch.testing.assert_close(three(features, torch.zeros(96)), 3 * one(features, torch.zeros(96)))
    output = three.regressor(three.merge(features.clip, features.dino), features.latents)
    lengths = three(features, torch.zeros(96)).norm(dim=-1)
    torch.testing.assert_close(
        lengths, 3 * output.square().mean(-1).sqrt()
    )  # an output of unit spread has the norm of an average embedding


def test_images_of_a_batch_are_independent(new_probe, features):
    probe, noun = new_probe("promptnet"), torch.zeros(96)
    first = Features(features.clip[:1], features.dino[:1], features.latents[:1])
    torch.testing.assert_close(probe(features, noun)[:1], probe(first, noun), atol=1e-5, rtol=1e-4)


@pytest.fixture
def good(path, new_probe):
    """A saved tiny resampler and its configuration."""
    probe = new_probe("resampler", **BASE)
    probe.save(path)
    return path


def test_the_unchanged_file_loads(good):
    assert Probe.load(good).config.width == 16


@pytest.mark.parametrize("key", ["width", "clip_width", "dino_width", "num_tokens"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "16", True, None, [], {}, 1 << 20, 10**300])
def test_an_invalid_integer_is_refused(good, key, value, refuses):
    rewrite(good, BASE | {key: value})
    refuses(Probe.load, good)


@pytest.mark.parametrize("norms", ["0.1", [0.1] * 10, [0.1] * 10 + ["0.1"], [0.1] * 10 + [float("nan")], [-1.0] * 11, None])
def test_invalid_gradient_norms_are_refused(good, norms, refuses):
    rewrite(good, BASE | {"gradient_norms": norms})
    assert "gradient norms" in refuses(Probe.load, good)


def test_a_file_of_an_earlier_version_may_have_a_step_size_of_its_own():
    old = {"words_step": 0.02, "stepper": 16, "learned_step": 0.5}
    assert ProbeConfig.from_table(BASE | old) == ProbeConfig(**BASE)


@pytest.mark.parametrize("key", ["embedding_norm", "residual_step"])
@pytest.mark.parametrize("value", [0, -1.0, 1e5, float("nan"), float("inf"), "1", None, [1]], ids=repr)
def test_an_invalid_scale_is_refused(good, key, value, refuses):
    rewrite(good, BASE | {key: value})
    refuses(Probe.load, good)


@pytest.mark.parametrize("key", ["clip", "dino", "regressor", "base_model", "base_fingerprint", "trained_on", "licence"])
@pytest.mark.parametrize("value", [7, None, [], {}], ids=repr)
def test_a_field_that_is_not_text_is_refused(good, key, value, refuses):
    rewrite(good, BASE | {key: value})
    refuses(Probe.load, good)


@pytest.mark.parametrize(
    "sizes",
    [5, None, [1], "heads", {"heads": 0}, {"heads": 3}, {"heads": -1}, {"heads": "2"}, {"heads": 2.0}, {"heads": [2]}, {"layers": 0},
     {"layers": 65536}, {"layers": [1]}, {"inner": 65536}, {"inner": 15}, {"unknown": 1}, {"num_tokens": 5}, {"width": 16}, {"self": 1}],
    ids=repr,
)  # fmt: skip
def test_invalid_sizes_of_a_resampler_are_refused(good, sizes, refuses):
    rewrite(good, BASE | {"sizes": sizes if not isinstance(sizes, dict) else BASE["sizes"] | sizes})
    refuses(Probe.load, good)


@pytest.mark.parametrize(
    "sizes",
    [{"channels": 0}, {"channels": 33}, {"channels": 65536, "multipliers": [65536, 65536]}, {"multipliers": []}, {"multipliers": 4},
     {"multipliers": [1] * 40}, {"multipliers": [0]}, {"multipliers": [[1]]}, {"multipliers": "1244"}, {"depth": 0}, {"depth": 65536},
     {"heads": 0}, {"heads": 7}, {"attention_levels": "all"}, {"latent_channels": 65536}, {"pooled": 65536}, {"time": 1}],
    ids=repr,
)  # fmt: skip
def test_invalid_sizes_of_a_promptnet_are_refused(path, sizes, new_probe, refuses):
    probe = new_probe("promptnet")
    probe.save(path)
    from dataclasses import asdict

    rewrite(path, asdict(probe.config) | {"sizes": probe.config.sizes | sizes})
    refuses(Probe.load, path)


@pytest.mark.parametrize(
    "config",
    ["", "nothing", "[]", "7", "null", "{}", '"width"', "[" * 100_000, json.dumps(BASE | {"unknown": 1}), json.dumps({"width": 16}),
     json.dumps(BASE)[:-1]],
    ids=["empty", "text", "list", "number", "null", "nothing given", "string", "deep", "unknown key", "keys missing", "truncated"],
)  # fmt: skip
def test_an_invalid_configuration_is_refused(good, config, refuses):
    rewrite(good, config)
    refuses(Probe.load, good)


def test_an_unknown_regressor_is_named_with_those_that_exist(good, refuses):
    rewrite(good, BASE | {"regressor": "hypernet"})
    message = refuses(Probe.load, good)
    assert "hypernet" in message and "promptnet" in message and "resampler" in message


def test_sizes_that_the_tensors_do_not_have_are_refused(good, refuses):
    for change in ({"num_tokens": 6}, {"width": 32}, {"clip_width": 9}, {"sizes": {"layers": 2, "heads": 2}}):
        rewrite(good, BASE | change)
        assert good.name in refuses(Probe.load, good)


def test_a_newer_format_asks_for_an_update(good, refuses):
    rewrite(good, format_version="2")
    assert "update" in refuses(Probe.load, good)
    rewrite(good, format_version=None)
    refuses(Probe.load, good)


@pytest.mark.parametrize("kind", ["hybridbooth.subject", None])
def test_another_kind_of_file_is_refused(good, kind, refuses):
    rewrite(good, format=kind)
    assert "not a HybridBooth probe" in refuses(Probe.load, good)


def test_a_missing_configuration_is_refused(good, refuses):
    save_file(load_file(good), good, metadata={"format": "hybridbooth.probe", "format_version": "1"})
    refuses(Probe.load, good)


@pytest.mark.parametrize("damage", ["missing", "extra", "nan", "integer", "truncated"])
def test_damaged_tensors_are_refused(good, damage, refuses):
    tensors = load_file(good)
    name = next(iter(tensors))
    if damage == "missing":
        del tensors[name]
    elif damage == "extra":
        tensors["extra"] = torch.zeros(1)
    elif damage == "nan":
        tensors[name].view(-1)[0] = float("nan")
    elif damage == "integer":
        tensors[name] = tensors[name].int()
    from safetensors import safe_open

    with safe_open(good, "pt") as file:
        metadata = file.metadata()
    save_file(tensors, good, metadata=metadata)
    if damage == "truncated":
        good.write_bytes(good.read_bytes()[:-4])
    assert good.name in refuses(Probe.load, good)
