"""Published layouts are detected, and the mappers agree with the published formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hybridbooth_core.mappers.published import recognise


def affine(table: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return torch.einsum("...i,oi->...o", x, table[f"{name}.weight"].double()) + table[f"{name}.bias"].double()


def norm(table: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    standard = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return standard * table[f"{name}.weight"].double() + table[f"{name}.bias"].double()


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.01 * x)


def test_elite_equals_its_formula_in_float64(elite):
    mapper, left_out = recognise(elite)
    states = torch.randn(2, 5, 7, 1024)

    def mlp(name: str, x: Tensor) -> Tensor:
        x = leaky(norm(elite, f"{name}.1", affine(elite, f"{name}.0", x)))
        x = leaky(norm(elite, f"{name}.4", affine(elite, f"{name}.3", x)))
        return affine(elite, f"{name}.6", x)

    tokens = states.double()
    embeddings = [mlp(f"mapping_{i}", tokens[:, i, 0]) + mlp(f"mapping_patch_{i}", tokens[:, i, 1:]).mean(1) for i in range(5)]
    torch.testing.assert_close(mapper(states).double(), torch.stack(embeddings, 1), atol=1e-4, rtol=1e-4)
    assert (mapper.kind, mapper.licence, left_out) == ("elite", "Apache-2.0", 2)
    assert not mapper.training and not any(p.requires_grad for p in mapper.parameters())


def test_phi_equals_its_formula_in_float64(phi):
    mapper, _ = recognise(phi)
    x = torch.randn(3, 768)
    table, y = phi["Phi"], x.double()
    for name in ("layers.0", "layers.3"):
        y = affine(table, name, y)
        y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
    torch.testing.assert_close(mapper(x).double()[:, 0], affine(table, "layers.6", y), atol=1e-5, rtol=1e-4)
    assert (mapper.kind, mapper.licence, mapper.needs_noun) == ("phi", "CC-BY-NC-4.0", True)


def test_pic2word_equals_its_formula_in_float64(pic2word):
    mapper, _ = recognise(pic2word)
    x = torch.randn(3, 768)
    table, y = pic2word["state_dict_img2text"], x.double()
    for name in ("module.layers.0.0", "module.layers.1.0"):
        y = affine(table, name, y).clamp_min(0)
    torch.testing.assert_close(mapper(x).double()[:, 0], affine(table, "module.fc_out", y), atol=1e-5, rtol=1e-4)
    assert (mapper.kind, mapper.licence) == ("pic2word", "Apache-2.0")


def test_a_flat_dictionary_is_recognised_too(phi, pic2word):
    assert recognise(phi["Phi"])[0].kind == "phi"
    plain = {name.removeprefix("module."): tensor.half() for name, tensor in pic2word["state_dict_img2text"].items()}
    mapper, _ = recognise(plain)
    assert mapper.kind == "pic2word" and all(p.dtype == torch.float32 for p in mapper.parameters())


class FakeVision:
    """A vision model with simple outputs; it records the layers requested."""

    size = 224

    def __init__(self):
        self.layers: tuple[int, ...] = ()

    def embed(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool1d(images.flatten(1), 768)

    def states(self, images: Tensor, layers) -> Tensor:
        self.layers = tuple(layers)
        return torch.stack([F.adaptive_avg_pool1d(images.flatten(1) * (1 + k), 7 * 1024).view(-1, 7, 1024) for k in layers], 1)


def test_elite_reads_the_published_layers_in_their_order(elite):
    vision, mapper = FakeVision(), recognise(elite)[0]
    embeddings = mapper.embeddings(vision, torch.rand(2, 224, 224, 3))
    assert vision.layers == (24, 4, 8, 12, 16) and embeddings.shape == (2, 5, 768)


def test_a_single_word_mapper_reads_the_image_embedding(phi):
    vision, mapper = FakeVision(), recognise(phi)[0]
    images = torch.rand(2, 224, 224, 3)
    torch.testing.assert_close(mapper.embeddings(vision, images)[:, 0], mapper(vision.embed(images))[:, 0])


@pytest.mark.parametrize("damage", ["missing", "more", "width", "hidden", "whole numbers"])
def test_other_sizes_and_names_are_refused(damage, elite, refuses):
    table = dict(elite)
    if damage == "missing":
        del table["mapping_patch_3.4.bias"]
    elif damage == "more":
        table["something.weight"] = torch.zeros(1)
    elif damage == "width":
        table["mapping_2.6.weight"], table["mapping_2.6.bias"] = torch.zeros(512, 1024), torch.zeros(512)
    elif damage == "hidden":
        table["mapping_0.0.weight"] = torch.zeros(1024, 768)
    else:
        table["mapping_0.0.bias"] = torch.zeros(1024, dtype=torch.int64)
    message = refuses(recognise, table)
    assert "ELITE" in message and "found" in message


def test_phi_of_another_clip_is_refused(phi, refuses):
    small = {name: tensor[:512, :512] if tensor.ndim == 2 else tensor[:512] for name, tensor in phi["Phi"].items()}
    assert "ViT-L/14" in refuses(recognise, {"Phi": small})


@pytest.mark.parametrize("content", [{}, [1, 2], {"emb_params": torch.zeros(5, 768)}, {"a": 1}, {"layers.0.weight": torch.zeros(2, 2)}])
def test_other_content_is_refused(content, refuses):
    assert "ELITE" in refuses(recognise, content)
