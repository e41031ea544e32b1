"""diffusers reads the files and predicts the same."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file

from hybridbooth_core.methods.registry import run_method

pytest.importorskip("diffusers")


def made(name, model, ref, path):
    artefact = run_method(name, model, ref, "cat", steps=2, rate=0.02, batch=1, token="red", prior_weight=0).artefact
    artefact.save(path)
    return artefact


def test_diffusers_lora_loader(model, ref, look, eps, tmp_path):
    pytest.importorskip("peft")
    from diffusers import StableDiffusionPipeline

    path = tmp_path / "pet.safetensors"
    artefact = made("dreambooth_lora", model, ref, path)
    unet = copy.deepcopy(model.unet)
    weights, alphas = StableDiffusionPipeline.lora_state_dict(str(path), unet_config=unet.config)[:2]
    assert len(weights) == 2 * 128
    StableDiffusionPipeline.load_lora_into_unet(weights, alphas, unet)
    with artefact.applied(model) as pieces, torch.no_grad():
        found = eps(model, pieces)
        context = model.encode_prompts([["a photo of a red cat"]]).context.expand(2, -1, -1)
    with torch.no_grad():
        expected = unet(look.noisy, look.t, context).sample
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert (found - model.predict_noise(look.noisy, look.t, context)).abs().max() > 1e-3


def test_diffusers_custom_diffusion_processors(model, ref, look, eps, tmp_path):
    from diffusers.models.attention_processor import CustomDiffusionAttnProcessor

    path = tmp_path / "pet.safetensors"
    artefact = made("custom_diffusion", model, ref, path)
    tensors = load_file(path)
    word, unet = tensors.pop("emb_params"), copy.deepcopy(model.unet)
    # `unet.load_attn_procs` itself sets nothing outside a pipeline (diffusers 0.42) and wants empty entries, which safetensors cannot hold
    processors = dict(unet.attn_processors)
    for name in [name for name in processors if name.endswith("attn2.processor")]:
        own = {key.removeprefix(f"{name}."): tensors.pop(key) for key in list(tensors) if key.startswith(f"{name}.")}
        hidden = own["to_k_custom_diffusion.weight"].shape[0]
        processors[name] = CustomDiffusionAttnProcessor(train_q_out=False, hidden_size=hidden, cross_attention_dim=24)
        processors[name].load_state_dict(own, strict=True)
    assert not tensors
    unet.set_attn_processor(processors)
    with artefact.applied(model) as pieces, torch.no_grad():
        found = eps(model, pieces)
        context = model.encode_prompts([["a photo of a", word, "cat"]]).context.expand(2, -1, -1)
    with torch.no_grad():
        expected = unet(look.noisy, look.t, context).sample
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert (found - model.predict_noise(look.noisy, look.t, context)).abs().max() > 1e-3


def test_a_full_denoiser_is_diffusers_state_dict(model, ref, look, eps, tmp_path):
    path = tmp_path / "pet.safetensors"
    artefact = made("dreambooth", model, ref, path)
    unet = copy.deepcopy(model.unet)
    unet.load_state_dict(load_file(path), strict=True)
    with artefact.applied(model) as pieces, torch.no_grad():
        found = eps(model, pieces)
        context = model.encode_prompts([["a photo of a red cat"]]).context.expand(2, -1, -1)
        assert torch.equal(found, unet(look.noisy, look.t, context).sample)
