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


def test_other_things_are_refused(model_folder, tmp_path, refuses):
    assert "check the path" in refuses(load_model, tmp_path / "missing")
    assert "model_index.json" in refuses(load_model, tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    assert "StableDiffusionXLPipeline" in refuses(load_model, tmp_path)


def test_pickled_weights_are_not_read(model_folder, tmp_path, refuses):
    folder = tmp_path / "pickled"
    shutil.copytree(model_folder, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    assert ".safetensors" in refuses(load_model, folder)
