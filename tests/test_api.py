"""Every method on the miniature and on a Stable Diffusion 1.5 checkpoint of reduced width: made, saved, loaded, drawn with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")

from hybridbooth_core import AdapterWeights, HybridBooth, Subject, load_artefact
from hybridbooth_core.encoders.clip_space import ClipSpace
from hybridbooth_core.methods.registry import METHODS
from hybridbooth_core.models.lidb import LiDBSpace, lidb_layers
from hybridbooth_core.probe.hypernetwork import Hypernetwork, HypernetworkConfig
from hybridbooth_core.probe.instant import InstantBooth, InstantConfig, block_sizes

SIDE = 64  # pixels, so that the reduced checkpoint takes seconds; its own 512 are for the slow tests
FEW = {"dreambooth": {"prior_images": 2, "batch": 1}, "probe_free": {"inversion_steps": 1}}
FEW |= dict.fromkeys(("dreambooth_lora", "custom_diffusion", "lidb"), FEW["dreambooth"])
SMALL = {"sd15": {"lidb": {"subspace": (16, 8)}}}  # the reduced checkpoint has layers of 32


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def miniature() -> HybridBooth:
    return HybridBooth.load()


@pytest.fixture(scope="module")
def sd15(stock_checkpoint, new_probe) -> HybridBooth:
    """The reduced checkpoint with an untrained probe, whose encoders and CLIP space have random weights too."""
    booth = HybridBooth.load(stock_checkpoint, device="cpu", probe=new_probe("resampler", width=64, clip_width=8, dino_width=8))
    booth.base.model.image_size = SIDE
    booth.hypernetwork, booth.adapter = _untrained(booth.base.model)

    class Encoder(torch.nn.Module):
        size, width = 28, 8

        def forward(self, images):
            return torch.nn.functional.adaptive_avg_pool2d(images.movedim(-1, 1), (2, 4)).mean(1)[:, None].expand(-1, 5, -1, -1).flatten(2)

    kind = type(booth.base)
    space = ClipSpace(lambda crops: crops.mean((1, 2)), 28, torch.nn.Linear(64, 3).requires_grad_(False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "encoders", classmethod(lambda cls, config, folders=(), vision=None, device="cpu": (Encoder(), Encoder())))
        patch.setattr(kind, "clip_space", lambda self, folders=(): space)
        patch.setattr(kind, "class_images", type(booth.base.sampling)(2, 3.0))
        yield booth


def _untrained(model) -> tuple[Hypernetwork, InstantBooth]:
    """A hypernetwork and an adapter for the reduced checkpoint, off their start, so that they do something."""
    shared = {"width": 64, "clip": "test/clip@1", "clip_width": 8, "dino": "test/dino@1", "dino_width": 8}
    shared |= {"family": model.family, "base_model": model.name}
    space = LiDBSpace.of(lidb_layers(model), 16, 8)
    sizes = {"matrices": space.shape[0], "subspace": (16, 8), "token": "sks", "targets": "all", "inner": 16, "heads": 2}
    hypernetwork = Hypernetwork(HypernetworkConfig(**shared, **sizes))
    torch.nn.init.normal_(hypernetwork.heads.weight)
    adapter = InstantBooth(InstantConfig(**shared, blocks=block_sizes(model.unet), heads=2))
    for layer in adapter.adapters:
        torch.nn.init.constant_(layer.gate, 0.1)
    return hypernetwork.eval().requires_grad_(False), adapter.eval().requires_grad_(False)


@pytest.fixture(params=["miniature", "sd15"])
def booth(request) -> HybridBooth:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("method", METHODS)
def test_a_subject_is_made_saved_loaded_and_drawn(booth, method, photo, tmp_path):
    before = {name: tensor.clone() for name, tensor in booth.base.model.unet.state_dict().items()}
    steps = {} if METHODS[method].rate is None else {"steps": 1}
    own = SMALL.get("sd15", {}).get(method, {}) if booth.base.family != "miniature" else {}
    made = booth.personalize(photo, "cat", method=method, **steps, **FEW.get(method, {}), **own)
    assert isinstance(made, Subject) == (METHODS[method].makes == "subject")
    booth.save(made, tmp_path / "pet.safetensors")
    loaded = load_artefact(tmp_path / "pet.safetensors", booth.base.model.embedding_width)
    assert loaded.info == made.info and loaded.info.family == booth.base.family
    if isinstance(made, Subject) and isinstance(loaded, Subject):
        assert torch.equal(loaded.embeddings, made.embeddings)

    def draw(prompt, **more):
        return np.asarray(booth.generate(prompt, steps=2, sampler="", size=SIDE, seed=1, **more))

    noun, off = draw("a photo of a cat on snow"), draw("a photo of a <pet> on snow", subjects={"pet": loaded}, strength=0.0)
    full = draw("a photo of a <pet> on snow", subjects={"pet": tmp_path / "pet.safetensors"})
    assert (noun == off).all() and (full != noun).any() and (draw("a photo of a cat on snow") == noun).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in booth.base.model.unet.state_dict().items())


def test_defaults_are_those_of_the_base():
    assert METHODS["textual_inversion"].configuration("stable-diffusion-v1").learning_rate == 5e-4
    assert METHODS["textual_inversion"].configuration("miniature").learning_rate == 1e-2
    assert METHODS["dreambooth"].configuration("miniature", steps=3).prior_images == 32
    assert METHODS["dreambooth"].configuration().prior_images == 200


def test_the_best_start_there_is(stock_checkpoint, miniature, sd15):
    plain = HybridBooth.load(stock_checkpoint, device="cpu")
    assert miniature.best_method().name == "hybridbooth" and sd15.best_method().name == "hybridbooth"
    assert HybridBooth(sd15.base).best_method().name == "probe_free"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(plain.base), "clip_space", lambda self, folders=(): None)
        assert plain.best_method().name == "from_noun"


def test_a_subject_of_one_base_is_refused_by_the_other(miniature, sd15, photo, refuses):
    small, large = miniature.personalize(photo, "cat", steps=0), sd15.personalize(photo, "cat", method="from_noun", steps=0)
    for booth, subject, other in ((sd15, small, "miniature"), (miniature, large, "stable-diffusion-v1")):
        message = refuses(booth.generate, "a <pet>", subjects={"pet": subject}, size=SIDE)
        assert other in message and "96" in message and "64" in message
    with pytest.raises(Exception, match="the probe was made for"):
        HybridBooth(miniature.base, sd15.probe).personalize(photo, "cat", method="hybridbooth", steps=0)


def test_a_file_says_what_it_is_for(sd15, miniature, photo, tmp_path):
    from safetensors import safe_open

    for booth, architecture in ((sd15, "stable-diffusion-v1/textual-inversion"), (miniature, None)):
        path = tmp_path / f"{booth.base.family.replace('-', '_')}.safetensors"
        booth.personalize(photo, "cat", method="from_noun", steps=0).save(path)
        with safe_open(path, "pt") as file:
            told = file.metadata()
        assert told.get("modelspec.architecture") == architecture
        assert (told["family"], told["width"], told["base_fingerprint"]) == (
            booth.base.family, str(booth.base.model.embedding_width), booth.base.model.fingerprint,
        )  # fmt: skip


def test_images_are_taken_as_people_have_them(miniature, photo, tmp_path, refuses):
    photo.save(tmp_path / "photo.png")
    pixels = np.asarray(photo)
    forms = [photo, tmp_path / "photo.png", str(tmp_path / "photo.png"), pixels, torch.from_numpy(pixels / 255.0), [photo]]
    found = [miniature.reference(form).images for form in forms]
    assert all(torch.allclose(other, found[0], atol=1e-6) for other in found)
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[8:40, 8:40] = 255
    assert miniature.reference(photo, Image.fromarray(mask)).masks.mean() == pytest.approx(0.25)
    assert "[5]" in refuses(miniature.reference, torch.rand(5))


def test_a_photo_too_large_for_the_miniature_names_the_option(miniature, refuses):
    message = refuses(miniature.personalize, np.zeros((768, 1024, 3), dtype=np.uint8), "cat")
    assert "--model" in message and "1024x768" in message and "128" in message


def test_a_tuned_model_is_a_stock_checkpoint_or_a_folder(sd15, stock_checkpoint, stock_folder, photo, tmp_path, refuses):
    """DreamBooth's file is loaded as any checkpoint is, and draws with its rare token what the artefact draws."""
    made = sd15.personalize(photo, "cat", method="dreambooth", steps=1, learning_rate=1e-3, token="sks", **FEW["dreambooth"])
    assert isinstance(made, AdapterWeights)
    sd15.save(made, tmp_path / "sks.safetensors")
    sd15.save(made, tmp_path / "sks")
    own, base = (
        np.asarray(sd15.generate(prompt, subjects={"pet": made} if "<" in prompt else None, steps=2, size=SIDE, sampler=""), dtype=int)
        for prompt in ("a photo of <pet>", "a photo of sks cat")
    )
    for path in (tmp_path / "sks.safetensors", tmp_path / "sks"):
        other = HybridBooth.load(path, device="cpu")
        drawn = np.asarray(other.generate("a photo of sks cat", steps=2, size=SIDE, sampler=""), dtype=int)
        assert np.abs(drawn - own).mean() < 0.1 * np.abs(base - own).mean(), path  # float16 rounds
    folder = HybridBooth.load(stock_folder, device="cpu")
    assert "folder" in refuses(folder.save, made, tmp_path / "other.safetensors")
    assert "exists" in refuses(sd15.save, made, tmp_path / "sks")


def test_a_batch_and_a_sampler(miniature, refuses):
    three = miniature.generate_batch("a photo of a cat", 3, steps=2, sampler="euler_a", seed=4)
    one = miniature.generate("a photo of a cat", steps=2, sampler="euler_a", seed=4)
    assert len(three) == 3 and np.abs(np.asarray(three[0], dtype=int) - np.asarray(one, dtype=int)).max() <= 1
    assert np.abs(np.asarray(three[0], dtype=int) - np.asarray(three[1], dtype=int)).mean() > 5
    with_red = miniature.generate("a photo of a cat", negative="a photo of a red cat", steps=2)
    assert (np.asarray(with_red) != np.asarray(miniature.generate("a photo of a cat", steps=2))).any()
    assert "euler" in refuses(miniature.generate, "a cat", sampler="magic")
    for wrong in ({"steps": 0}, {"guidance": 31.0}, {"delay": 1.5}, {"size": 65}, {"delay": 0.5}):
        refuses(miniature.generate, "a cat", **wrong)


def test_what_is_missing_is_said_before_any_work(sd15, photo, refuses):
    plain = HybridBooth(sd15.base)
    assert "probe_free" in refuses(plain.personalize, photo, "cat", method="hybridbooth")
    assert "class noun" in refuses(plain.personalize, photo, method="from_noun")
    assert "wings" in refuses(plain.personalize, photo, "cat", method="from_noun", wings=2)
    assert "from_noun" in refuses(plain.personalize, photo, "cat", method="magic")
