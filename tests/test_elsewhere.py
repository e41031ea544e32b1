"""A saved subject in other programs: diffusers itself, and the loading rules that the others apply, said here in our own words.

ComfyUI itself is in tests/host. The rules are what each program's public code does with a file.
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from hybridbooth_core.files.subject import Subject, SubjectInfo
from hybridbooth_core.models.from_pipeline import model_of


@pytest.fixture(params=[False, True], ids=["float32", "float16"])
def saved(request, tmp_path):
    """A subject of Stable Diffusion 1.5's width, and its file."""
    embeddings = torch.randn(5, 768, generator=torch.Generator().manual_seed(0)) * 0.4 / 768**0.5
    subject = Subject(embeddings.half().float() if request.param else embeddings, SubjectInfo(class_noun="cat", validation=[0.2, 0.1]))
    subject.save(tmp_path / "my-cat.safetensors", half=request.param)
    return subject, tmp_path / "my-cat.safetensors"


def automatic1111(path) -> torch.Tensor:
    """AUTOMATIC1111 and Forge: one tensor, whatever its name, of one or two axes; several only as string_to_param or SDXL's two."""
    tensors = load_file(path)
    assert "string_to_param" not in tensors
    if not {"clip_g", "clip_l"} <= tensors.keys():
        assert len(tensors) == 1, "refused: not a single tensor"
    vectors = next(iter(tensors.values()))
    vectors = vectors[None] if vectors.ndim == 1 else vectors
    assert vectors.ndim == 2
    return vectors.float()


def invokeai(path) -> tuple[str, torch.Tensor]:
    """InvokeAI: the base model by the width that a known key has (by the first axis under unknown keys), the words by that same key."""
    tensors = load_file(path)
    if "emb_params" in tensors:
        width = tensors["emb_params"].shape[-1]
    elif "clip_g" in tensors:
        width = tensors["clip_g"].shape[-1]
    else:
        width = next(iter(tensors.values())).shape[0]
    bases = {768: "sd-1", 1024: "sd-2", 1280: "sdxl"}
    assert width in bases, f"refused: no base model has {width}"
    return bases[width], tensors["emb_params"].float()


def test_automatic1111_and_forge_take_it(saved):
    subject, path = saved
    assert torch.equal(automatic1111(path), subject.embeddings)


def test_invokeai_takes_it_for_stable_diffusion_15(saved):
    subject, path = saved
    base, embeddings = invokeai(path)
    assert base == "sd-1" and torch.equal(embeddings, subject.embeddings)


def test_the_rules_would_refuse_other_layouts(tmp_path):
    save_file({"words": torch.zeros(5, 768)}, tmp_path / "other.safetensors")
    with pytest.raises(AssertionError, match="no base model has 5"):
        invokeai(tmp_path / "other.safetensors")
    save_file({"emb_params": torch.zeros(5, 768), "class": torch.zeros(768)}, tmp_path / "two.safetensors")
    with pytest.raises(AssertionError, match="not a single tensor"):
        automatic1111(tmp_path / "two.safetensors")


@pytest.fixture
def pipeline(new_pipeline):
    """A text encoder of CLIP-L's width and heads with one layer and a vocabulary of a few words."""
    return new_pipeline(width=768, length=77, intermediate_size=256, num_hidden_layers=1, num_attention_heads=12)


def test_diffusers_loads_it_by_a_token_and_encodes_the_same_text(saved, pipeline):
    subject, path = saved
    expected = model_of(pipeline).encode_prompts([["a photo of", subject.embeddings, "on snow"]]).context
    pipeline.load_textual_inversion(str(path), token="<my-cat>")
    found, _ = pipeline.encode_prompt("a photo of <my-cat> on snow", "cpu", 1, False)
    assert found.shape == (1, 77, 768)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    plain, _ = pipeline.encode_prompt("a photo of cat on snow", "cpu", 1, False)
    assert not torch.allclose(plain, found, atol=1e-2)
