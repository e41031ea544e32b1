"""Conversion of published files: equal outputs, no code is run, no partial file remains."""

from __future__ import annotations

import logging
import os
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hybridbooth_core.mappers.files import convert, load, summary
from hybridbooth_core.mappers.published import recognise


@pytest.mark.parametrize("name", ["elite", "phi", "pic2word"])
def test_a_converted_file_gives_equal_outputs(name, request, tmp_path):
    content = request.getfixturevalue(name)
    torch.save(content, tmp_path / "published.pt")
    convert(tmp_path / "published.pt", tmp_path / "ours.safetensors")
    (tmp_path / "published.pt").unlink()
    mapper, wanted = load(tmp_path / "ours.safetensors"), recognise(content)[0]
    x = torch.randn(2, 5, 3, 1024) if name == "elite" else torch.randn(2, 768)
    assert torch.equal(mapper(x), wanted(x))
    assert (mapper.kind, mapper.source, mapper.licence) == (wanted.kind, wanted.source, wanted.licence)
    assert mapper.licence in summary(mapper) and mapper.source in summary(mapper)
    assert not mapper.training and not any(p.requires_grad for p in mapper.parameters())


def test_a_published_safetensors_is_converted_with_the_users_licence(phi, tmp_path):
    save_file(phi["Phi"], tmp_path / "phi.safetensors")
    convert(tmp_path / "phi.safetensors", tmp_path / "ours.safetensors", "MIT, by letter")
    with safe_open(tmp_path / "ours.safetensors", "pt") as file:
        assert file.metadata()["licence"] == "MIT, by letter" and file.metadata()["format"] == "hybridbooth.mapper"
    assert load(tmp_path / "ours.safetensors").licence == "MIT, by letter"


def test_ignored_tensors_are_logged(elite, tmp_path, caplog):
    torch.save(elite, tmp_path / "elite.pt")
    with caplog.at_level(logging.INFO, "hybridbooth"):
        convert(tmp_path / "elite.pt", tmp_path / "ours.safetensors")
    assert any("2 key and value matrices" in record.message for record in caplog.records)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_with_code_is_refused(how, phi, tmp_path, refuses):
    trace, path = tmp_path / "run", tmp_path / "evil.pt"
    content = {**phi, "extra": Malicious(trace)}
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    assert "run code" in refuses(convert, path, tmp_path / "ours.safetensors")
    assert not trace.exists() and sorted(p.name for p in tmp_path.iterdir()) == ["evil.pt"]


@pytest.mark.parametrize("kind", ["missing", "text", "truncated", "empty", "subject", "cut safetensors"])
def test_other_files_are_refused_without_output(kind, phi, tmp_path, refuses):
    path = tmp_path / ("x.safetensors" if kind in ("subject", "cut safetensors") else "x.pt")
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        torch.save(phi, path)
        path.write_bytes(path.read_bytes()[:1_000_000])
    elif kind == "subject":
        save_file({"emb_params": torch.zeros(5, 768)}, path)
    elif kind == "cut safetensors":
        save_file(phi["Phi"], path)
        path.write_bytes(path.read_bytes()[:-4])
    refuses(convert, path, tmp_path / "ours.safetensors")
    assert not (tmp_path / "ours.safetensors").exists()


def test_numbers_that_are_not_finite_are_refused(phi, tmp_path, refuses):
    bad = {name: tensor.clone() for name, tensor in phi["Phi"].items()}
    bad["layers.3.bias"][7] = float("nan")
    torch.save({"Phi": bad}, tmp_path / "phi.pt")
    assert "finite" in refuses(convert, tmp_path / "phi.pt", tmp_path / "ours.safetensors")
    assert not (tmp_path / "ours.safetensors").exists()


def test_an_empty_licence_is_refused(phi, tmp_path, refuses):
    torch.save(phi, tmp_path / "phi.pt")
    assert "licence" in refuses(convert, tmp_path / "phi.pt", tmp_path / "ours.safetensors", "  ")


@pytest.mark.parametrize("change", [{"format": "hybridbooth.probe"}, {"format_version": "2"}, {"kind": "unknown"}, {"kind": "elite"}])
def test_loading_refuses_unknown_metadata(change, phi, tmp_path, refuses):
    mapper = recognise(phi)[0]
    metadata = {"format": "hybridbooth.mapper", "format_version": "1", "kind": "phi"} | change
    save_file(mapper.state_dict(), tmp_path / "m.safetensors", metadata=metadata)
    refuses(load, tmp_path / "m.safetensors")


@pytest.mark.parametrize("shapes", [[(4, 768), (512, 4)], [(4, 768), (768, 5)], [], [(768,)]])
def test_loading_refuses_layers_that_do_not_fit(shapes, tmp_path, refuses):
    tensors = {f"layers.{k}.weight": torch.zeros(shape) for k, shape in enumerate(shapes)}
    tensors |= {f"layers.{k}.bias": torch.zeros(shape[0]) for k, shape in enumerate(shapes)}
    metadata = {"format": "hybridbooth.mapper", "format_version": "1", "kind": "phi"}
    save_file(tensors, tmp_path / "m.safetensors", metadata=metadata)
    refuses(load, tmp_path / "m.safetensors")
