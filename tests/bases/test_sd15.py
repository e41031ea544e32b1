"""Loading what is evaluated, and refusing what is something else."""

import json
import shutil

import pytest
import torch

pytest.importorskip("diffusers")

from hybridbooth_core.bases.sd15 import load_model


def test_a_folder_of_diffusers(model_folder):
    model = load_model(model_folder)
    assert (model.name, model.image_size, model.embedding_width) == ("tiny-sd15", 64, 32)
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())
    assert model.encode_prompts([["a cat in the snow"]]).context.shape == (1, 77, 32)
    assert model.encode_image(torch.zeros(1, 64, 64, 3)).shape == (1, 4, 8, 8)


def test_a_checkpoint_without_configuration_at_hand_is_refused_with_the_way_out(tmp_path, refuses, monkeypatch):
    import huggingface_hub
    from safetensors.torch import save_file

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3)}, tmp_path / "sd.safetensors")
    message = refuses(load_model, tmp_path / "sd.safetensors")
    assert "hf download" in message and "folder of diffusers" in message


def test_other_things_are_refused(model_folder, tmp_path, refuses):
    assert "check the path" in refuses(load_model, tmp_path / "missing")
    assert "model_index.json" in refuses(load_model, tmp_path)
    (tmp_path / "sd.ckpt").write_bytes(b"\x80\x04")
    assert "check the path" in refuses(load_model, tmp_path / "sd.ckpt")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    assert "StableDiffusionXLPipeline" in refuses(load_model, tmp_path)


def test_pickled_weights_are_not_read(model_folder, tmp_path, refuses):
    folder = tmp_path / "pickled"
    shutil.copytree(model_folder, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    assert ".safetensors" in refuses(load_model, folder)
