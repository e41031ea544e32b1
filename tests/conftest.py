"""Shared fixtures: a miniature model with random weights, tiny probes, reference pictures. All seeded, frozen, and made once."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from hybridbooth_core.errors import UserError

torch.set_num_threads(1)  # everything here is tiny: more threads only wait for one another

PROMPTNET_SIZES = {
    "channels": 32, "multipliers": [1, 2], "depth": 1, "heads": 4, "attention_levels": 2, "latent_channels": 16, "pooled": 8,
}  # fmt: skip
RESAMPLER_SIZES = {"layers": 2, "heads": 4, "inner": 32}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def world():
    """The miniature's text-to-image model with random weights, frozen."""
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from hybridbooth_core.miniature.nets import Autoencoder
    from hybridbooth_core.miniature.world_model import new_text_encoder, new_unet, world_model

    torch.manual_seed(11)
    text = new_text_encoder()
    with torch.no_grad():
        for parameter in text.parameters():  # CLIP's own start is so small that words hardly matter
            parameter.add_(0.1 * torch.randn_like(parameter))
    parts = [part.eval().requires_grad_(False) for part in (new_unet(), text, Autoencoder())]
    return world_model(*parts)


@pytest.fixture(scope="session")
def encoders():
    """A CLIP-like and a DINO-like encoder with random weights."""
    from hybridbooth_core.miniature.nets import ImageEncoder

    torch.manual_seed(12)
    return SimpleNamespace(clip=ImageEncoder().eval().requires_grad_(False), dino=ImageEncoder().eval().requires_grad_(False))


@pytest.fixture(scope="session")
def new_probe() -> Callable:
    """A function: regressor kind (and changes to the configuration) to an untrained tiny probe, frozen, always the same one."""
    from hybridbooth_core.probe import Probe, ProbeConfig

    def make(kind: str = "promptnet", **changes) -> Probe:
        sizes = PROMPTNET_SIZES if kind == "promptnet" else RESAMPLER_SIZES
        settings = {"width": 96, "clip": "test/clip@1", "clip_width": 96, "dino": "test/dino@1", "dino_width": 96, "regressor": kind,
                    "sizes": sizes, "word_norm": 2.0, "base_model": "a test"} | changes  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(13)
            return Probe(ProbeConfig(**settings)).eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def subject(world, encoders) -> SimpleNamespace:
    """What a person brings, and what is computed from it: two pictures of one creature with masks (`ref`), `features`, `noun`."""
    from hybridbooth_core.features import extract_features, reference
    from hybridbooth_core.miniature.render import render
    from hybridbooth_core.miniature.world import creatures, random_scenes, split_numbers

    who = creatures(split_numbers("test", 1).repeat(2))
    pictures, masks = render(who, random_scenes(2, torch.Generator().manual_seed(3)))
    ref = reference(pictures, masks)
    features = extract_features(world, encoders.clip, encoders.dino, ref)
    return SimpleNamespace(ref=ref, features=features, noun=world.word_embeddings("cat")[0])


@pytest.fixture
def refuses() -> Callable[..., str]:
    """A function that calls its arguments, expects a `UserError` and nothing else, and returns its message, checked to be a sentence."""

    def call(function: Callable, *args, **kwargs) -> str:
        with pytest.raises(Exception) as caught:
            function(*args, **kwargs)
        assert type(caught.value) is UserError, f"expected a UserError, found {caught.value!r}"
        message = str(caught.value)
        assert 20 < len(message) < 600 and "\n" not in message.strip(), message
        return message

    return call


@pytest.fixture
def state_of() -> Callable[..., dict[str, Tensor]]:
    """A function: modules to a copy of all their parameters and buffers."""

    def copy(*modules: torch.nn.Module) -> dict[str, Tensor]:
        return {f"{i}.{k}": v.clone() for i, module in enumerate(modules) for k, v in module.state_dict().items()}

    return copy
