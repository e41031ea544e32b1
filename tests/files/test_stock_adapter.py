"""Adapter weights under the keys of ComfyUI's LoRA loader."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from hybridbooth_core.files.adapter_weights import WORD, AdapterInfo, AdapterWeights, custom_diffusion_name
from hybridbooth_core.files.stock_adapter import save_stock, stock_tensors

NAME = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def weights(form: str = "custom_diffusion") -> AdapterWeights:
    tensors = {custom_diffusion_name(NAME): torch.full((4, 3), 2.0), WORD: torch.ones(1, 8)}
    if form == "lora":
        tensors = {
            f"{KEY}.lora_down.weight": torch.ones(2, 3),
            f"{KEY}.lora_up.weight": torch.ones(4, 2),
            f"{KEY}.alpha": torch.tensor(2.0),
        }
    return AdapterWeights(tensors, AdapterInfo(form, "cat", "kww", family="miniature"))  # type: ignore[arg-type]


def test_a_matrix_becomes_its_difference_and_the_word_is_left_out(tmp_path):
    own = {NAME: torch.full((4, 3), 0.5, dtype=torch.float16)}
    written = save_stock(weights(), own, tmp_path / "a.safetensors")
    read = load_file(tmp_path / "a.safetensors")
    assert list(read) == list(written) == [f"{KEY}.diff"] and torch.equal(read[f"{KEY}.diff"], torch.full((4, 3), 1.5))


def test_a_lora_stays_as_it_is_and_loads_here_too(tmp_path):
    save_stock(weights("lora"), {}, tmp_path / "a.safetensors")
    again = AdapterWeights.load(tmp_path / "a.safetensors")
    assert again.info.form == "lora" and all(torch.equal(again.tensors[key], value) for key, value in weights("lora").tensors.items())


def test_an_existing_file_is_kept(tmp_path, refuses):
    (tmp_path / "a.safetensors").write_bytes(b"precious")
    assert "exists already" in refuses(save_stock, weights("lora"), {}, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == b"precious"


@pytest.mark.parametrize("own", [{}, {NAME: torch.zeros(3, 4)}])
def test_another_denoiser_is_refused(own):
    with pytest.raises(ValueError, match="the denoiser that was tuned"):
        stock_tensors(weights(), own)
