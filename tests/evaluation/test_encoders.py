"""The encoders at full size with random weights: their outputs, and loading them from files."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

pytest.importorskip("timm")
pytest.importorskip("lpips")

from hybridbooth_core.evaluation.encoders import CLIP_B32, CLIP_L14, load_clip, load_dino, load_encoders, load_lpips
from hybridbooth_core.evaluation.photos import open_photo
from hybridbooth_core.evaluation.untrained import checksum_tokens, untrained_encoders


@pytest.fixture(scope="module")
def photos(dataset):
    return [open_photo(path) for path in sorted((dataset / "cat").glob("*.jpg"))]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_layouts_have_the_published_sizes(encoders):
    assert parameters(encoders.dino.network) == 21_665_664  # ViT-S/16 without a head
    assert parameters(encoders.clips["b32"].network) == 151_277_313
    assert parameters(encoders.lpips.network.net) == 14_714_688  # VGG16's convolutions


def test_dino_returns_the_last_class_token(encoders, photos):
    features = encoders.dino(photos)
    pixels = torch.stack([encoders.dino.preprocess(photo) for photo in photos])
    with torch.no_grad():
        tokens = encoders.dino.network.forward_features(pixels)
    assert features.shape == (3, 384) and tokens.shape == (3, 197, 384)
    torch.testing.assert_close(features, tokens[:, 0])


def test_clip_features_give_transformers_logits(encoders, photos):
    clip, prompts = encoders.clips["b32"], ["a cat in the snow", "a cat"]
    images, texts = clip(photos), clip.texts(prompts)
    assert images.shape == (3, 512) and texts.shape == (2, 512)
    pixels = torch.stack([clip.preprocess(photo) for photo in photos])
    with torch.no_grad():
        own = clip.network(pixel_values=pixels, **checksum_tokens(prompts))
    cosines = nn.functional.normalize(images, dim=1) @ nn.functional.normalize(texts, dim=1).T
    torch.testing.assert_close(cosines * clip.network.logit_scale.exp(), own.logits_per_image)


def test_batches_keep_the_order(encoders, photos):
    features = encoders.dino(photos * 7)
    torch.testing.assert_close(features[18:], features[:3], atol=1e-4, rtol=1e-4)


def test_lpips_is_the_published_formula(encoders, photos):
    """Zhang et al. 2018, eq. 1, in float64: unit vectors, weighted squared differences, mean over cells, sum over layers."""
    a, b = (encoders.lpips.preprocess(photo.resize((64, 64))) for photo in photos[:2])
    network = encoders.lpips.network
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    layers = [layer for i in range(1, 6) for layer in network.net.get_submodule(f"slice{i}")]

    def taken(image):
        x = ((image.double().numpy().transpose(1, 2, 0) - shift) / scale).transpose(2, 0, 1)[None]
        x, features = torch.from_numpy(x), []
        for number, layer in enumerate(layers):
            if isinstance(layer, nn.Conv2d):
                x = nn.functional.conv2d(x, layer.weight.double(), layer.bias.double(), padding=1)
            elif isinstance(layer, nn.MaxPool2d):
                x = nn.functional.max_pool2d(x, 2)
            else:
                x = x.clamp(min=0)
            if number in (3, 8, 15, 22, 29):  # relu1_2, 2_2, 3_3, 4_3, 5_3
                f = x[0].numpy()
                features.append(f / (np.sqrt((f**2).sum(0)) + 1e-10))
        return features

    expected = 0.0
    for index, (fa, fb) in enumerate(zip(taken(a), taken(b), strict=True)):
        weights = network.lins[index].model[-1].weight.double().numpy().reshape(-1)
        assert (weights >= 0).all() and weights.max() > 0  # the authors' calibration, not a random start
        expected += (weights[:, None, None] * (fa - fb) ** 2).sum(0).mean()
    seen = encoders.lpips(a, b)
    assert seen == pytest.approx(expected, rel=1e-5) and seen > 1e-3
    assert encoders.lpips(a, a) == 0 and encoders.lpips(b, a) == pytest.approx(seen, rel=1e-6)


def test_dino_and_lpips_load_from_files(encoders, photos, tmp_path):
    save_file(encoders.dino.network.state_dict(), tmp_path / "dino.safetensors")
    again = load_dino(tmp_path / "dino.safetensors").eval()
    assert torch.equal(again(photos), encoders.dino(photos))
    trunk = {"features." + name.split(".", 1)[1]: t for name, t in encoders.lpips.network.net.state_dict().items()}
    save_file(trunk | {"head.fc.weight": torch.zeros(10, 4)}, tmp_path / "vgg.safetensors")
    lpips = load_lpips(tmp_path / "vgg.safetensors").eval()
    a, b = (lpips.preprocess(photo.resize((64, 64))) for photo in photos[:2])
    assert lpips(a, b) == encoders.lpips(a, b)


def test_timms_vgg16_has_the_expected_names():
    import timm

    with torch.device("meta"):
        timms = timm.create_model("vgg16.tv_in1k").state_dict()
    layers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    assert {f"features.{n}.{p}" for n in layers for p in ("weight", "bias")} == {name for name in timms if name.startswith("features.")}


def test_clip_loads_from_a_folder(encoders, photos, tmp_path, refuses, write_vocabulary, monkeypatch):
    import copy
    import socket

    from transformers import CLIPTokenizer

    network = copy.deepcopy(encoders.clips["b32"].network).half()
    network.save_pretrained(tmp_path / "clip")
    write_vocabulary(tmp_path, ["a", "cat", "in", "the", "snow", "toy"])
    CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), model_max_length=77).save_pretrained(tmp_path / "clip")
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: asked.append(args) or [])
    again = load_clip(CLIP_B32, tmp_path / "clip")
    assert not asked, "the network was used for what is there"
    assert again.network.dtype == torch.float32
    torch.testing.assert_close(again.eval()(photos), encoders.clips["b32"](photos), atol=2e-2, rtol=2e-2)
    assert again.texts(["a cat in the snow", "a toy"]).shape == (2, 512)
    assert "clip-vit-large-patch14" in refuses(load_clip, CLIP_L14, tmp_path / "clip")
    (tmp_path / "clip" / "model.safetensors").unlink()  # half a gigabyte that pytest would keep


def test_refusals(tmp_path, refuses):
    message = refuses(load_encoders, tmp_path)
    assert "lacks the encoder clip-vit-base-patch32" in message and "hf download openai/clip-vit-base-patch32" in message
    assert "--encoders" in refuses(load_clip, CLIP_B32, str(tmp_path))
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert "lacks the tensor" in refuses(load_lpips, tmp_path / "x.safetensors")
    assert "lacks the tensor" in refuses(load_dino, tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x04pickle")
    refuses(load_dino, tmp_path / "x.safetensors")


def test_without_a_folder_nothing_is_downloaded(tmp_path, refuses, monkeypatch):
    import socket

    import huggingface_hub

    asked = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: asked.append(args) or [])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = refuses(load_encoders)
    assert "openai/clip-vit-base-patch32" in message and "--download" in message and not asked


def test_cached_encoders_load_without_the_network(tmp_path, monkeypatch):
    import socket

    import huggingface_hub

    from hybridbooth_core.evaluation.encoders import DINO_HUB, _local_folder

    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: pytest.fail("the network was used"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model, revision = tmp_path / f"models--{DINO_HUB.replace('/', '--')}", "a" * 40
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(revision)
    (model / "snapshots" / revision).mkdir(parents=True)
    (model / "snapshots" / revision / "model.safetensors").write_bytes(b"")
    assert _local_folder(DINO_HUB, None, download=False) == model / "snapshots" / revision


def test_untrained_weights_are_seeded(encoders):
    again = untrained_encoders((), seed=0)
    assert again.untrained and again.clips == {}
    assert set(encoders.fingerprints()) == {"dino_vits16", "clip_b32", "lpips_vgg16"}
    assert untrained_encoders((), seed=1).fingerprints() != untrained_encoders((), seed=2).fingerprints()


def test_checksum_tokens_have_the_shape_of_clips_tokens():
    tokens = checksum_tokens(["a cat", "a " * 100])
    assert tokens["input_ids"].shape == (2, 77) and tokens["attention_mask"].sum(1).tolist() == [4, 77]
    assert tokens["input_ids"][0, [0, 3]].tolist() == [49406, 49407] and int(tokens["input_ids"][1, 76]) == 49407
