"""A checkpoint of Stable Diffusion 1.5's true size, with random weights: what its users type, on a CPU, at a quarter of the side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
PHOTOS = Path(__file__).parents[1] / "data" / "dreambooth"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, write_stock_checkpoint) -> Path:
    """2.1 GB in float16, as v1-5-pruned-emaonly."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=77,
        bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964, "the true denoiser"
    path = tmp_path_factory.mktemp("full") / "sd15-random.safetensors"
    return write_stock_checkpoint(path, unet, vae, CLIPTextModel(text), torch.float16)


def test_personalize_and_generate(checkpoint, tmp_path, monkeypatch, capsys):
    from hybridbooth_core.cli import main
    from hybridbooth_core.models.diffusers_adapter import DiffusersModel

    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("the network was asked"))
    loaded = DiffusersModel.__init__

    def small(self, *args, **kwargs):
        loaded(self, *args, **kwargs)
        self.image_size = 128

    monkeypatch.setattr(DiffusersModel, "__init__", small)
    photo = next(PHOTOS.glob("*/*.jpg"))
    model = ["--model", str(checkpoint), "--device", "cpu"]
    out = tmp_path / "pet.safetensors"
    assert main(["personalize", str(photo), *model, "--class-word", "cat", "--steps", "1", "--out", str(out)]) == 0
    assert "from_noun" in capsys.readouterr().out and out.stat().st_size < 20_000
    image = tmp_path / "pet.png"
    drawing = ["generate", "a photo of <pet> on snow", "--subject", f"pet={out}", "--steps", "2", "--size", "128", "--out", str(image)]
    assert main([*drawing, *model]) == 0
    with Image.open(image) as drawn:
        assert drawn.size == (128, 128) and "a photo of <pet> on snow" in drawn.text["parameters"]  # type: ignore[attr-defined]
