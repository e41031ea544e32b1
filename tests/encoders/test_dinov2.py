"""DINOv2 against timm's own loading and preprocessing, with the same random weights at full size."""

import pytest
import torch
from safetensors.torch import load_file, save_file

timm = pytest.importorskip("timm")

from hybridbooth_core.encoders.catalogue import DINOV2_B, DINOV2_L, DINOV2_POSITIONS, DINOV2_S  # noqa: E402
from hybridbooth_core.encoders.dinov2 import load_dinov2  # noqa: E402
from hybridbooth_core.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise  # noqa: E402

from .conftest import as_tensor, randomised, relative  # noqa: E402


def layout(entry, **options) -> torch.nn.Module:
    """timm's published network, for 518 pixels and without weights."""
    try:
        with torch.device("meta"):
            return timm.create_model(entry.id.split("/")[1], pretrained=False, num_classes=0, **options)
    except RuntimeError:  # timm 1.0.3 cannot build on meta
        return timm.create_model(entry.id.split("/")[1], pretrained=False, num_classes=0, **options)


@pytest.fixture(scope="module")
def file_of(tmp_path_factory):
    """A function: an entry and a dtype to a file in the published layout, with smooth position embeddings as trained ones are."""
    made = []

    def make(entry, dtype):
        network = randomised(layout(entry).to_empty(device="cpu"))
        coarse = torch.randn(1, entry.width, 8, 8, generator=torch.Generator().manual_seed(1))
        smooth = torch.nn.functional.interpolate(coarse, size=37, mode="bicubic").flatten(2).mT
        network.pos_embed.copy_(torch.cat([network.pos_embed[:, :1], smooth], 1))
        path = tmp_path_factory.mktemp("dino") / "any name.safetensors"
        save_file({name: tensor.to(dtype) for name, tensor in network.state_dict().items()}, path)
        made.append(path)
        return path

    yield make
    for path in made:
        path.unlink()


def timms_own(entry, path) -> torch.nn.Module:
    """timm's network for 224 pixels with the same weights, loaded by timm's own filter of published files."""
    network = layout(entry, img_size=224)
    state = {name: tensor.float() for name, tensor in load_file(path).items()}
    network.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(state, network), assign=True)
    return network.eval()


def transform_of(network):
    """timm's preprocessing at 224 pixels."""
    config = timm.data.resolve_data_config({"input_size": (3, 224, 224)}, model=network)
    return timm.data.create_transform(**config, is_training=False)


@torch.no_grad()
@pytest.mark.parametrize(("entry", "dtype"), [(DINOV2_S, torch.float32), pytest.param(DINOV2_L, torch.float16, marks=pytest.mark.slow)])
def test_features_equal_timms_own(entry, dtype, file_of, photos):
    path = file_of(entry, dtype)
    ours, own = load_dinov2(path, entry), timms_own(entry, path)
    square = photos[0].crop((16, 16, 240, 240))
    tokens = ours(as_tensor(square)[None])
    assert tokens.shape == (1, 257, entry.width) and ours.width == entry.width and tokens.dtype == torch.float32
    assert relative(own.forward_features(transform_of(own)(square)[None]), tokens) < 1e-4


def test_preprocessing_agrees_with_timm(photos, crops):
    """Up to PIL's rounding, see test_clip_vit."""
    prepared = torch.stack([transform_of(layout(DINOV2_S))(photo) for photo in photos])
    difference = (normalise(crops, IMAGENET_MEAN, IMAGENET_STD) - prepared).abs()
    assert float(difference.max()) < 4 / 255 / min(IMAGENET_STD) and float(difference.mean()) < 0.4 / 255 / min(IMAGENET_STD)


@pytest.mark.parametrize("entry", [DINOV2_S, DINOV2_B, DINOV2_L], ids=lambda entry: entry.label)
def test_the_signatures_are_timms_layouts(entry):
    shapes = {name: tuple(tensor.shape) for name, tensor in layout(entry).state_dict().items()}
    assert all(shapes[name] == shape for name, shape in entry.signature.items())
    assert shapes["pos_embed"] == (1, DINOV2_POSITIONS, entry.width)
    assert len([name for name in shapes if name.endswith("ls1.gamma")]) == 1 + int(
        next(n for n in entry.signature if "ls1" in n).split(".")[1]
    )
    numbers = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert 0 < entry.size - 4 * numbers < 100_000, "the published file is these tensors in float32 and a header"


def test_an_early_timm_that_cannot_build_on_meta(monkeypatch, file_of, crops):
    path = file_of(DINOV2_S, torch.float32)
    expected, create = load_dinov2(path, DINOV2_S)(crops), timm.create_model

    def early(*args, **kwargs):
        torch.linspace(0, 1, 2)[1].item()  # timm 1.0.3 asks for the shares of stochastic depth so
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", early)
    assert torch.equal(load_dinov2(path, DINOV2_S)(crops), expected)


def test_refusals(tmp_path, refuses, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_file({"pos_embed": torch.zeros(1, 1370, 384)}, path)
    assert "lacks the tensor" in refuses(load_dinov2, path, DINOV2_S)
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    assert "pip install timm" in refuses(load_dinov2, path, DINOV2_S)
