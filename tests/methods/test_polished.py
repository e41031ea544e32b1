"""The third stage: the embeddings stay, a LoRA of K and V learns, and both are one file that stock programs read in parts."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.files.adapter_weights import WORD, AdapterWeights
from hybridbooth_core.files.stock_adapter import save_stock
from hybridbooth_core.files.subject import Subject, SubjectInfo
from hybridbooth_core.methods.polished import PolishConfig, polish
from hybridbooth_core.methods.registry import load_artefact, run_method
from hybridbooth_core.refine.config import RefineConfig
from hybridbooth_core.refine.personalize import personalize
from hybridbooth_core.refine.task import Task


@pytest.fixture(scope="module")
def start() -> Subject:
    return Subject(torch.randn(5, 24, generator=torch.Generator().manual_seed(3)), SubjectInfo(class_noun="cat"))


@pytest.fixture(scope="module")
def made(model, ref, start) -> AdapterWeights:
    config = PolishConfig(steps=3, learning_rate=0.02, rank=2, batch=2, caption="on snow")
    artefact = polish(model, ref, start, config).artefact
    assert isinstance(artefact, AdapterWeights)
    return artefact


def test_the_words_stay_and_k_and_v_of_the_cross_attentions_move(made, start, model):
    layers = {name.partition(".")[0] for name in made.tensors if name != WORD}
    attentions = [name for name, _ in model.unet.named_modules() if name.endswith("attn2")]
    assert layers == {f"lora_unet_{name.replace('.', '_')}_to_{p}" for name in attentions for p in "kv"}
    assert torch.equal(made.tensors[WORD], start.embeddings)
    assert all(made.tensors[f"{layer}.lora_up.weight"].abs().sum() > 0 for layer in layers)
    assert (made.info.form, made.info.class_noun, made.info.steps) == ("polished", "cat", 3)


def test_the_loss_of_its_own_photo_falls(model, ref, start):
    made = polish(model, ref, start, PolishConfig(steps=30, learning_rate=0.01, batch=4)).artefact
    task = Task(model, ref, RefineConfig(validation=16))
    before = task.validate(start.embeddings)
    with made.applied(model):
        assert task.validate(start.embeddings) < before
    assert task.validate(start.embeddings) == before, "nothing of it is left"


def test_what_it_sees_is_the_caption(model, ref, start, made):
    config = PolishConfig(steps=3, learning_rate=0.02, rank=2, batch=2)
    other = polish(model, ref, start, config).artefact
    assert any(not torch.equal(other.tensors[name], tensor) for name, tensor in made.tensors.items())
    again = polish(model, ref, start, PolishConfig(steps=3, learning_rate=0.02, rank=2, batch=2, caption="on snow")).artefact
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in made.tensors.items())


def test_strength_moves_words_and_weights_together(made, start, model, eps):
    with made.applied(model, 0.0) as pieces:
        assert list(pieces) == ["cat"] and torch.equal(eps(model, ["cat"]), eps(model, pieces))
    with made.applied(model, 0.5) as pieces:
        rows = model.token_embeddings("cat")
        torch.testing.assert_close(pieces[0], start.at_strength(0.5, rows))
        half = eps(model, pieces)
    assert not torch.allclose(eps(model, pieces), half, atol=1e-4), "without the LoRA it is another image"


def test_stock_programs_get_a_lora_and_an_embedding(made, start, model, tmp_path):
    made.save(tmp_path / "pet.safetensors")
    loaded = load_artefact(tmp_path / "pet.safetensors", 24)
    assert isinstance(loaded, AdapterWeights) and loaded.info == made.info
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in made.tensors.items())
    tensors = save_stock(made, dict(model.unet.named_parameters()), tmp_path / "lora.safetensors")
    assert WORD not in tensors and all(name.startswith("lora_unet_") for name in tensors) and len(tensors) == len(made.tensors) - 1
    made.subject().save(tmp_path / "words.safetensors")
    assert torch.equal(Subject.load(tmp_path / "words.safetensors").embeddings, start.embeddings)


def test_files_and_subjects_that_do_not_fit_are_refused(made, model, ref, tmp_path, refuses):
    made.save(tmp_path / "pet.safetensors")
    assert "should be [n, 768]" in refuses(load_artefact, tmp_path / "pet.safetensors", 768)
    assert "names no class noun" in refuses(polish, model, ref, Subject(torch.zeros(5, 24)), PolishConfig())
    assert "rank" in refuses(PolishConfig, rank=0)


def test_the_method_refines_first_and_then_polishes(world, subject, new_probe):
    probe, seen = new_probe(), []
    given = {"class_noun": "cat", "probe": probe, "features": subject.features}
    made = run_method("polished", world, subject.ref, **given, steps=2, caption="on snow", seed=4, batch=2, on_step=seen.append)
    first = personalize(world, probe, subject.ref, subject.features, "cat", RefineConfig(caption="on snow", seed=4))
    assert torch.equal(made.artefact.tensors[WORD], first.subject.embeddings)
    assert [step.done for step in seen] == list(range(1, 13)) and {step.steps for step in seen} == {12}
    assert len(made.losses) == 12 and "LoRA: 2 steps" in made.report
