"""Lightweight DreamBooth as a method, its export as a LoRA, and finetuning that may leave its rank."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hybridbooth_core.errors import UserError
from hybridbooth_core.files.adapter_weights import NUMBERS, AdapterWeights
from hybridbooth_core.methods.hyperdreambooth import HyperDreamBoothConfig, finetune
from hybridbooth_core.methods.registry import load_artefact, run_method
from hybridbooth_core.models.lidb import LiDBSpace, lidb_layers
from tests.methods.conftest import CONTEXT

FEW = {"steps": 2, "token": "picture", "prior_weight": 0.0, "batch": 1, "subspace": (8, 4), "rate": 0.05}


@pytest.fixture(scope="module")
def made(model, ref) -> AdapterWeights:
    artefact = run_method("lidb", model, ref, "cat", **FEW).artefact
    assert isinstance(artefact, AdapterWeights)
    return artefact


def predicted(model, pieces):
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    context = model.encode_prompts([["a photo of a", *pieces]]).context.expand(2, -1, -1)
    return model.predict_noise(noisy, torch.tensor([800, 100]), context)


def test_it_moves_its_numbers_alone(made, model):
    layers = lidb_layers(model)
    assert len(layers) == 128 + 6 * len(text_blocks(model)) and made.tensors.keys() == {NUMBERS}
    start = LiDBSpace.of(layers, 8, 4).start()
    assert made.tensors[NUMBERS].shape == start.shape
    moved = (made.tensors[NUMBERS] - start).abs().amax(1)
    assert bool((moved > 0).all()), "also those of the text encoder"
    info = made.info
    assert (info.form, info.subspace, info.targets, info.steps, info.width) == ("lidb", (8, 4), "all", 2, CONTEXT)


def text_blocks(model):
    return getattr(model.text_encoder, "text_model", model.text_encoder).encoder.layers


def test_targets_choose_the_layers(model, ref):
    for targets, count in (("unet", 128), ("unet+text", 128 + 4 * len(text_blocks(model)))):
        artefact = run_method("lidb", model, ref, "cat", targets=targets, **{**FEW, "steps": 1}).artefact
        assert len(artefact.tensors[NUMBERS]) == count


def test_its_lora_is_the_same_subject(made, model, tmp_path):
    made.save(tmp_path / "pet.safetensors")
    lora = made.as_lora(model)
    lora.save(tmp_path / "lora.safetensors")
    found = []
    for path in (tmp_path / "pet.safetensors", tmp_path / "lora.safetensors"):
        for strength in (1.0, 0.4):
            with load_artefact(path).applied(model, strength) as pieces, torch.no_grad():
                found.append(predicted(model, pieces))
                plain = [*pieces]
    torch.testing.assert_close(found[0], found[2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], found[3], atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        assert (found[0] - predicted(model, plain)).abs().max() > 1e-4
    assert lora.info.form == "lora" and sum(name.endswith("lora_up.weight") for name in lora.tensors) == len(lidb_layers(model))
    with pytest.raises(UserError, match="needs no export"):
        lora.as_lora(model)


def test_a_file_of_stable_diffusions_size_is_small(tmp_path, made):
    big = replace(made.info, subspace=(100, 50), family="stable-diffusion-v1", width=768, base_model="v1-5-pruned-emaonly")
    AdapterWeights({NUMBERS: torch.randn(200, 150)}, big).save(tmp_path / "pet.safetensors")
    assert (tmp_path / "pet.safetensors").stat().st_size <= 121_000


def test_a_model_with_other_layers_is_refused(made, model):
    other = replace(made.info, base_model="another")
    with (
        pytest.raises(UserError, match="made for another and do not fit"),
        AdapterWeights({NUMBERS: made.tensors[NUMBERS][:-1]}, other).applied(model),
    ):
        pass


@pytest.mark.parametrize("changes", [{"subspace": (100, 50)}, {"subspace": (0, 4)}, {"subspace": (8.5, 4)}, {"targets": "everything"}])
def test_a_subspace_that_does_not_fit_is_one_sentence(model, ref, changes, refuses):
    refuses(run_method, "lidb", model, ref, "cat", **{**FEW, **changes})


@pytest.mark.parametrize("start", ["numbers", "nothing"])
def test_finetuning_leaves_the_rank_and_keeps_its_start(made, model, ref, start):
    config = HyperDreamBoothConfig(steps=3, learning_rate=0.05, batch=2, rank=2, caption="on snow")
    begun = made if start == "numbers" else None
    found = finetune(model, ref, begun, "cat", "picture", config)
    rank = 3 if begun else 2
    downs = [tensor for name, tensor in found.artefact.tensors.items() if name.endswith("lora_down.weight")]
    assert {len(down) for down in downs} == {rank} and found.artefact.info.form == "lora"
    if begun:  # the first row is the start's
        lora = begun.as_lora(model).tensors
        for name, tensor in found.artefact.tensors.items():
            if name.endswith("lora_down.weight"):
                torch.testing.assert_close(tensor[:1], lora[name])
    assert found.losses[-1] != found.losses[0] and found.artefact.info.steps == 3


def test_zero_fresh_weights_are_the_start(made, model, ref):
    """Before the first step the loss is the start's own, not the base model's."""
    config = HyperDreamBoothConfig(steps=1, learning_rate=1e-12, batch=2, rank=2)
    tuned, plain = (finetune(model, ref, start, "cat", "picture", config) for start in (made, None))
    assert tuned.losses[0] != plain.losses[0]
    with tuned.artefact.applied(model) as pieces, torch.no_grad():
        found = predicted(model, pieces)
    with made.applied(model) as pieces, torch.no_grad():
        torch.testing.assert_close(found, predicted(model, pieces), atol=1e-4, rtol=1e-4)


def test_only_its_own_numbers_are_a_start(made, model, ref, refuses):
    assert "found lora" in refuses(finetune, model, ref, made.as_lora(model), "", "", HyperDreamBoothConfig())
    assert "class noun" in refuses(finetune, model, ref, None, " ", "picture", HyperDreamBoothConfig())
