"""Stock LoraLoader reads what `personalize --method dreambooth_lora` writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hybridbooth_core.files.adapter_weights import AdapterInfo, AdapterWeights, low_rank_tensors
from hybridbooth_core.methods.registry import run_method
from hybridbooth_core.miniature.bundle import load_model
from hybridbooth_core.miniature.evaluate import reference_of
from hybridbooth_core.miniature.world import creatures, split_numbers
from hybridbooth_core.models.low_rank import attention_layers, new_low_rank

from .comfy import Installation

SCRIPT = Path(__file__).parent / "inside" / "lora.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A LoRA of the miniature, what our own model says with it, and a LoRA for SD1.5's layout."""
    diffusers = pytest.importorskip("diffusers")
    folder, model = tmp_path_factory.mktemp("loras"), load_model()
    ref = reference_of(creatures(split_numbers("test", 1, 4)), 0)
    made = run_method("dreambooth_lora", model, ref, "cat", steps=3, rate=1e-2, token="picture", prior_weight=0).artefact
    made.save(folder / "pet.safetensors")
    asked = {"noisy": torch.randn(2, 16, 8, 8), "t": torch.tensor([800, 200])}
    with made.applied(model) as pieces, torch.no_grad():
        context = model.encode_prompts([["a photo of a", *pieces]]).context.expand(2, -1, -1)
        asked["tuned"] = model.predict_noise(asked["noisy"], asked["t"], context)
    save_file(asked, folder / "asked.safetensors")

    unet = diffusers.UNet2DConditionModel(block_out_channels=(32, 64, 128, 128), cross_attention_dim=24)
    residuals = {name: new_low_rank(layer, 2, torch.Generator()) for name, layer in attention_layers(unet).items()}
    AdapterWeights(low_rank_tensors(residuals), AdapterInfo("lora", "cat", "sks")).save(folder / "sd15.safetensors")
    return folder


def test_stock_lora_loader_reads_every_key_and_predicts_the_same(installation: Installation, folder: Path):
    found = json.loads(installation.run(SCRIPT, str(folder)).strip().splitlines()[-1])
    assert found["not loaded"] == []
    assert found["patched"] == found["fitting"] == 128
    assert found["difference"] < 1e-4 and found["change"] > 0.01, found
