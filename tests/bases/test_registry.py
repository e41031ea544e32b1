"""Which base a name stands for, and what is found in a ComfyUI folder."""

from __future__ import annotations

import gzip
import json
import shutil

import pytest

pytest.importorskip("diffusers")

from hybridbooth_core.bases import BASES, family_of_width, load_base
from hybridbooth_core.bases import clip_vocabulary as vocabulary
from hybridbooth_core.bases.comfyui import encoder_folders, find_model, list_models, model_folders
from hybridbooth_core.bases.training import training_bases


@pytest.fixture
def comfyui(tmp_path, stock_checkpoint):
    """A ComfyUI folder as it lies on disk, with a checkpoint in an inner folder, and another folder of models elsewhere."""
    root, other = tmp_path / "ComfyUI", tmp_path / "shared models"
    for kind in ("checkpoints/sd15", "clip_vision", "embeddings"):
        (root / "models" / kind).mkdir(parents=True)
    other.mkdir()
    shutil.copy(stock_checkpoint, root / "models" / "checkpoints" / "sd15" / "small.safetensors")
    (other / "far.safetensors").write_bytes(b"x")
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    (root / "extra_model_paths.yaml").write_text(f"a:\n  base_path: {tmp_path}\n  checkpoints: |\n    shared models\n")
    return root


def test_every_base_says_what_it_is():
    names = [kind.family for kind in BASES]
    assert len(set(names)) == len(names) and all(family_of_width(kind.width) == kind.family for kind in BASES)
    assert family_of_width(1024) == ""
    assert {"miniature", "sd15", "sd15-consumer"} <= set(training_bases().presets)


def test_the_miniature_is_a_name():
    base = load_base("miniature", device="cpu")
    assert base.model.family == base.family == "miniature" and base.default_probe() is not None


def test_a_checkpoint_of_a_comfyui_folder(comfyui, refuses):
    base = load_base("sd15/small", device="cpu", comfyui=comfyui)
    assert base.model.name == "small" and base.family == "stable-diffusion-v1"
    assert list_models(comfyui, "checkpoints") == ["far.safetensors", "sd15/small.safetensors"]
    assert find_model(comfyui, "checkpoints", "far.safetensors") is not None
    assert encoder_folders(comfyui) == [comfyui / "models" / "clip_vision"]
    message = refuses(load_base, "other", comfyui=comfyui)
    assert "far.safetensors" in message and "other" in message


def test_a_name_stays_inside_its_folder(comfyui):
    assert find_model(comfyui, "checkpoints", "../../../secret") is None


def test_folders_that_are_none(tmp_path, comfyui, refuses):
    assert "models/" in refuses(model_folders, tmp_path, "checkpoints")
    (comfyui / "extra_model_paths.yaml").write_text("a: [")
    assert "extra_model_paths.yaml" in refuses(model_folders, comfyui, "checkpoints")


def test_the_vocabulary_is_clips(comfyui, monkeypatch, refuses):
    """From the package, and the same from a ComfyUI folder; ids as openai/clip-vit-large-patch14 has them."""
    ids, merges = vocabulary.find_vocabulary()
    assert len(ids) == 49408 and len(merges) == 48894
    known = {"!": 0, "a</w>": 320, "photo</w>": 1125, "cat</w>": 2368, "sks</w>": 48136, "<|startoftext|>": 49406, "<|endoftext|>": 49407}
    assert {token: ids[token] for token in known} == known
    folder = comfyui / "comfy" / "sd1_tokenizer"
    folder.mkdir(parents=True)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    monkeypatch.setattr(vocabulary, "PACKAGE", "no_such_package")
    assert vocabulary.find_vocabulary(comfyui) == (ids, merges)
    assert "pip install open_clip_torch" in refuses(vocabulary.find_vocabulary)


def test_words_are_read_as_clip_reads_them(tmp_path):
    tokenizer = vocabulary.clip_tokenizer(tmp_path)
    assert tokenizer("A photo of a  CAT, on snow!", add_special_tokens=False).input_ids == [320, 1125, 539, 320, 2368, 267, 525, 2583, 256]
    assert tokenizer.pad_token_id == 49407 and tokenizer.model_max_length == 77
    assert json.loads((tmp_path / "vocab.json").read_text())["cat</w>"] == 2368


def test_a_hub_id_that_is_not_cached(monkeypatch, tmp_path, refuses):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert "hf download nobody/model" in refuses(load_base, "nobody/model", device="cpu")


@pytest.mark.parametrize("wrong", [{"dtype": "int8"}, {"device": "nonsense"}, {"dtype": "float16"}])
def test_what_the_miniature_cannot(wrong, refuses):
    refuses(load_base, "miniature", **{"device": "cpu", **wrong})


def test_merges_of_another_length_are_told_apart():
    packed = gzip.compress(b"version\na b\nab c</w>\n")
    ids, merges = vocabulary.from_merges(gzip.decompress(packed).decode())
    assert merges == ["a b", "ab c</w>"] and ids["abc</w>"] == 513
