"""What every system makes: it comes back from its file, is applied at a strength, and is gone without a trace."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hybridbooth_core.files.adapter_weights import AdapterInfo, AdapterWeights
from hybridbooth_core.files.subject import Subject
from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.methods.reference_latents import image_latents
from hybridbooth_core.methods.registry import load_artefact, run_method
from hybridbooth_core.methods.training import draw_rows
from hybridbooth_core.models.seeds import method_generator

TUNED = ("dreambooth", "dreambooth_lora", "custom_diffusion")
METHODS = ("textual_inversion", "textual_inversion_5", *TUNED)


@pytest.fixture(scope="module")
def prior(model):
    return Prior(model, steps=1)


@pytest.fixture(scope="module")
def made(model, ref, prior):
    """Each method's artefact after 2 steps large enough to see."""
    options = {"token": "red", "prior_images": 2, "batch": 1}
    return {
        name: run_method(name, model, ref, "cat", steps=2, rate=0.02, prior=prior, **(options if name in TUNED else {})).artefact
        for name in METHODS
    }


@pytest.fixture
def noun(model, eps):
    return eps(model, ["cat"])


@pytest.mark.parametrize("name", METHODS)
def test_it_comes_back_from_its_file(name, made, model, eps, tmp_path):
    path = tmp_path / "pet.safetensors"
    made[name].save(path)
    loaded = load_artefact(path, model.embedding_width)
    assert type(loaded) is type(made[name]) and loaded.info == made[name].info
    with made[name].applied(model) as pieces:
        expected = eps(model, pieces)
    with loaded.applied(model) as pieces:
        # where a file's tensors begin in memory decides how they are summed
        torch.testing.assert_close(eps(model, pieces), expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, values(loaded)[key]) for key, value in values(made[name]).items())


@pytest.mark.parametrize("name", METHODS)
def test_strength_zero_is_the_class_noun_and_afterwards_nothing_is_left(name, made, model, eps, noun, state_of):
    before = state_of(model.unet, model.text_encoder)
    with made[name].applied(model, 0.0) as pieces:
        assert list(pieces) == ["cat"] and torch.equal(eps(model, ["cat"]), noun)
    for strength in (0.5, 1.0, 2.0):
        with made[name].applied(model, strength) as pieces:
            assert not torch.allclose(eps(model, pieces), noun, atol=1e-3)
    with pytest.raises(KeyboardInterrupt), made[name].applied(model):
        raise KeyboardInterrupt
    assert torch.equal(eps(model, ["cat"]), noun)
    after = state_of(model.unet, model.text_encoder)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not any(module._forward_hooks for module in model.unet.modules())


@pytest.mark.parametrize("name", TUNED)
def test_strength_scales_the_change_of_the_weights(name, made, model, eps):
    """At s, the model is one whose weights were written as W + s (W' - W), and a new word is as far from the token it started from."""
    artefact = made[name]
    with artefact.applied(model) as pieces:
        pieces = list(pieces)
    for s in (0.5, 1.0, 1.5):
        own = {key: value.clone() for key, value in model.unet.state_dict().items()}
        try:
            with torch.no_grad():
                for key, weight in model.unet.named_parameters():
                    weight += s * change(artefact, key, weight)
            start = model.token_embeddings("red")
            expected = eps(model, [piece if isinstance(piece, str) else start + s * (piece - start) for piece in pieces])
        finally:
            model.unet.load_state_dict(own)
        with artefact.applied(model, s) as applied:
            assert [type(p) for p in applied] == [type(p) for p in pieces]
            torch.testing.assert_close(eps(model, applied), expected, atol=2e-5, rtol=1e-4)


def change(artefact: AdapterWeights, key: str, weight: torch.Tensor) -> torch.Tensor:
    """W' - W of one parameter."""
    if artefact.info.form == "lora":
        layer = "lora_unet_" + key.removesuffix(".weight").replace(".", "_")
        if f"{layer}.alpha" not in artefact.tensors:
            return torch.zeros_like(weight)
        down, up = artefact.tensors[f"{layer}.lora_down.weight"], artefact.tensors[f"{layer}.lora_up.weight"]
        return artefact.tensors[f"{layer}.alpha"] / len(down) * up @ down
    for p in "kv":
        key = key.replace(f"attn2.to_{p}.weight", f"attn2.processor.to_{p}_custom_diffusion.weight") if len(artefact.tensors) == 33 else key
    return artefact.tensors[key] - weight if key in artefact.tensors else torch.zeros_like(weight)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_kept_on_the_way_is_what_a_shorter_run_makes(name, model, ref, prior):
    options = {"prior": prior, "batch": 1, "seed": 4}
    options |= {"prior_images": 2} if name in TUNED else {}
    long = run_method(name, model, ref, "cat", steps=3, keep=(1, 2), **options)
    short = run_method(name, model, ref, "cat", steps=2, **options)
    assert sorted(long.artefacts) == [1, 2, 3] and long.artefact is long.artefacts[3] and len(long.losses) == 3
    for key, value in values(short.artefact).items():
        assert torch.equal(values(long.artefacts[2])[key], value)
        assert short.artefact.info == long.artefacts[2].info
    assert any(not torch.equal(value, values(long.artefact)[key]) for key, value in values(short.artefact).items())


@pytest.mark.parametrize("name", METHODS)
def test_at_strength_one_it_is_what_was_trained(name, model, ref):
    """The loss of the third step is that of the artefact after two, applied."""
    options = {"prior_weight": 0, "token": "red"} if name in TUNED else {}
    trained = run_method(name, model, ref, "cat", steps=3, keep=(2,), rate=0.02, batch=2, seed=4, **options)
    rows = draw_rows(image_latents(model, ref), 2, 1000, method_generator(4, 3))
    with trained.artefacts[2].applied(model) as pieces, torch.no_grad():
        context = model.encode_prompts([["a photo of a", *pieces]]).context.expand(2, -1, -1)
        predicted = model.predict_noise(model.schedule.add_noise(rows.latents, rows.noise, rows.t), rows.t, context)
    assert trained.losses[2] == pytest.approx((predicted - rows.noise).square().mean().item(), rel=1e-5)


def values(artefact) -> dict[str, torch.Tensor]:
    return {"words": artefact.embeddings} if isinstance(artefact, Subject) else artefact.tensors


@pytest.mark.parametrize("name", METHODS)
def test_an_interruption_leaves_the_model_as_it_was(name, model, ref, prior, eps, noun, state_of):
    before = state_of(model.unet, model.text_encoder)

    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_method(name, model, ref, "cat", steps=2, batch=1, prior=prior, on_step=stop, **({"prior_images": 2} if name in TUNED else {}))
    assert torch.equal(eps(model, ["cat"]), noun)
    assert all(torch.equal(value, before[key]) for key, value in state_of(model.unet, model.text_encoder).items())


def test_files_say_where_they_come_from_and_hold_no_path(made, tmp_path):
    path = tmp_path / "pet.safetensors"
    made["dreambooth_lora"].save(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    info = json.loads(metadata["info"])
    assert (info["form"], info["class_noun"], info["token"], info["steps"], info["learning_rate"]) == ("lora", "cat", "red", 2, 0.02)
    assert metadata["modelspec.trigger_phrase"] == "red cat" and info["base_model"] == "a small SD1.5"
    assert str(tmp_path) not in json.dumps(metadata)


def test_half_precision_halves_the_file(made, model, tmp_path):
    artefact = made["dreambooth"]
    artefact.save(tmp_path / "full.safetensors")
    artefact.save(tmp_path / "half.safetensors", half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    assert set(load_file(tmp_path / "half.safetensors")) == {name for name, _ in model.unet.named_parameters()}
    loaded = AdapterWeights.load(tmp_path / "half.safetensors")
    assert all(torch.equal(loaded.tensors[key], value.half().float()) for key, value in artefact.tensors.items())


def test_a_file_is_not_overwritten_unasked(made, tmp_path, refuses):
    path = tmp_path / "pet.safetensors"
    made["custom_diffusion"].save(path)
    content = path.read_bytes()
    assert "exists already" in refuses(made["custom_diffusion"].save, path)
    made["custom_diffusion"].save(path, overwrite=True)
    assert path.read_bytes() == content


DAMAGES = ("truncated", "extra", "nan", "double", "form", "info", "texts", "version", "missing", "shape")
CASES = [(name, damage) for name in TUNED for damage in DAMAGES[: 8 if name == "dreambooth" else None]]  # its names and shapes: see below


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_a_damaged_file_is_refused(name, damage, made, tmp_path, refuses):
    path = tmp_path / "pet.safetensors"
    made[name].save(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors, info = load_file(path), json.loads(metadata["info"])
    key = "emb_params" if name == "custom_diffusion" else next(k for k in tensors if "lora_down" in k or k.endswith("conv1.weight"))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-64])
        refuses(load_artefact, path)
        return
    if damage == "missing":
        del tensors[key]
    elif damage == "extra":
        tensors["more!"] = torch.zeros(2)
    elif damage == "nan":
        tensors[key] = torch.full_like(tensors[key], float("nan"))
    elif damage == "double":
        tensors[key] = tensors[key].double()
    elif damage == "form":
        info["form"] = "lora" if name != "dreambooth_lora" else "custom_diffusion"
    elif damage == "info":
        info["more"] = 1
    elif damage == "texts":
        info["class_noun"] = 7
    elif damage == "version":
        metadata["format_version"] = "2"
    elif damage == "shape":
        tensors[key] = tensors[key][:, None]
    save_file(tensors, path, {**metadata, "info": json.dumps(info)})
    assert path.name in refuses(load_artefact, path)


def test_a_word_of_another_width_is_refused(made, tmp_path, refuses):
    path = tmp_path / "pet.safetensors"
    made["custom_diffusion"].save(path)
    assert "768" in refuses(load_artefact, path, 768)


@pytest.mark.parametrize("name", METHODS)
def test_another_model_is_refused_by_name(name, made, world, refuses):
    def apply():
        with made[name].applied(world):
            pass

    assert "the miniature world" in refuses(apply)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan")])
def test_a_strength_out_of_range_is_refused(name, strength, made, model, refuses):
    def apply():
        with made[name].applied(model, strength):
            pass

    assert "strength" in refuses(apply)


def test_a_lora_goes_onto_a_checkpoint_with_other_words_but_whole_weights_do_not(made, model, caplog, refuses):
    def strange(name: str):
        artefact = made[name]
        return AdapterWeights(artefact.tensors, replace(artefact.info, base_fingerprint="0" * 16, base_model="another"))

    with strange("dreambooth_lora").applied(model) as pieces:
        assert pieces == ["red cat"]
    assert "another" in caplog.text

    def apply():
        with strange("dreambooth").applied(model):
            pass

    assert "another" in refuses(apply)


@pytest.mark.parametrize("damage", ["lacking", "shape"])
def test_a_denoiser_that_lacks_a_weight_or_has_another_shape_does_not_fit(damage, made, model, refuses):
    tensors = dict(made["dreambooth"].tensors)
    name = next(iter(tensors))
    weight = tensors.pop(name)
    if damage == "shape":
        tensors[name] = weight[:-1]

    def apply():
        with AdapterWeights(tensors, made["dreambooth"].info).applied(model):
            pass

    assert "do not fit" in refuses(apply)


def test_an_embedding_of_another_program_is_a_subject(tmp_path):
    save_file({"emb_params": torch.randn(2, 24)}, tmp_path / "theirs.safetensors")
    assert isinstance(load_artefact(tmp_path / "theirs.safetensors", 24), Subject)
    (tmp_path / "text.safetensors").write_text("no safetensors at all")
    with pytest.raises(Exception, match=r"text\.safetensors"):
        load_artefact(Path(tmp_path / "text.safetensors"))


def test_info_refuses_what_makes_no_sense(refuses):
    refuses(AdapterInfo, "lora", "", "red")
    refuses(AdapterInfo, "lora", "cat", " ")
    refuses(AdapterInfo, "pickle", "cat", "red")
    refuses(AdapterInfo, "lora", "cat", "red", steps="3")
