"""The same weights through diffusers and through ComfyUI: contexts, noise, attention columns and the gradient of a loss to the words.

Run in ComfyUI's own Python by `test_inside`; prints relative differences.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import inside

inside.start()

import comfy.latent_formats  # noqa: E402
import comfy.model_base  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.supported_models  # noqa: E402
import diffusers  # noqa: E402
import torch  # noqa: E402
from pack.hybridbooth_core.miniature.bundle import load_model  # noqa: E402
from pack.hybridbooth_core.miniature.vocabulary import MiniatureTokenizer  # noqa: E402
from pack.hybridbooth_core.models.adapter import AttentionCapture, ProbeTeacher  # noqa: E402
from pack.hybridbooth_core.models.diffusers_adapter import DiffusersModel  # noqa: E402
from pack.hybridbooth_core.models.ldm_layout import to_ldm_layout  # noqa: E402
from pack.hybridbooth_core.models.noise_schedule import NoiseSchedule  # noqa: E402
from pack.nodes.host.miniature import load_miniature_world  # noqa: E402
from pack.nodes.host.model import host_model  # noqa: E402
from torch import Tensor  # noqa: E402

LEVELS, HEADS, WIDTH, CHANNELS = (32, 64, 64), 4, 96, 16


def three_levels() -> tuple[object, object]:
    """A denoiser of Stable Diffusion 1.5's kind (three resolutions, the coarsest without attention, predicting noise), twice."""
    torch.manual_seed(1)
    unet = diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=CHANNELS, out_channels=CHANNELS, block_out_channels=LEVELS, layers_per_block=1,
        cross_attention_dim=WIDTH, attention_head_dim=HEADS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    ).eval().requires_grad_(False)  # fmt: skip

    class Latents(comfy.latent_formats.LatentFormat):
        latent_channels = CHANNELS

    class Config(comfy.supported_models.SD15):
        unet_extra_config = {"num_heads": HEADS, "num_head_channels": -1}  # noqa: RUF012
        latent_format = Latents

        def inpaint_model(self) -> bool:
            return False

    config = Config({
        "image_size": 16, "in_channels": CHANNELS, "out_channels": CHANNELS, "model_channels": LEVELS[0],
        "channel_mult": [1, 2, 2], "num_res_blocks": [1, 1, 1], "transformer_depth": [1, 1, 0], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1, 0, 0], "context_dim": WIDTH, "use_spatial_transformer": True, "legacy": False,
        "use_linear_in_transformer": False, "use_temporal_attention": False, "adm_in_channels": None,
    })  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device="cpu")
    model.diffusion_model.load_state_dict(to_ldm_layout(unet.state_dict()))
    return unet, comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def measure(model: ProbeTeacher, side: int) -> dict[str, Tensor]:
    """Everything that a refinement and a training ask of a model, on fixed words, noise and times."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(5, WIDTH, generator=generator).requires_grad_(True)
    noisy = torch.randn(4, CHANNELS, side, side, generator=generator)
    with torch.enable_grad():
        encoded = model.encode_prompts([["a photo of", embeddings], ["a photo of a small", embeddings, "on snow"]] * 2)
        capture = AttentionCapture(encoded.columns)
        noise = model.predict_noise(noisy, torch.tensor([3, 300, 700, 999]), encoded.context, capture)
        loss = noise.square().mean() + sum(layer.square().mean() for layer in capture.maps)
        loss.backward()
        output = model.network_output(noisy, torch.tensor([3, 300, 700, 990]), encoded.context)
    assert embeddings.grad is not None
    maps = {f"map {i}": layer.detach() for i, layer in enumerate(capture.maps)}
    found = {"context": encoded.context.detach(), "columns": encoded.columns, "noise": noise.detach(), "gradient": embeddings.grad, **maps}
    return {**found, "output": output.detach()}


def compare(standalone: DiffusersModel, wired: tuple, side: int) -> dict[str, float]:
    expected = measure(standalone, side)
    with torch.inference_mode(), host_model(*wired) as host:  # inference mode, as nodes find it
        found = measure(host, side)
        image = torch.rand(1, 64, 64, 3)
        expected["latents"] = standalone.encode_image(image)
        found["latents"] = host.encode_image(image)
        expected["picture"], found["picture"] = standalone.decode(expected["latents"]), host.decode(expected["latents"])
        expected["schedule"], found["schedule"] = standalone.schedule.alphas_cumprod, host.schedule.alphas_cumprod
        assert host.schedule.prediction == standalone.schedule.prediction
        assert host.fingerprint == standalone.fingerprint, f"{host.fingerprint} and {standalone.fingerprint}"
        assert host.latent_shape()[0] == standalone.latent_shape()[0]
        assert host.image_size == standalone.image_size or side != 8
    assert expected.keys() == found.keys(), f"{sorted(expected)} and {sorted(found)}"
    return {key: inside.relative(expected[key], found[key]) for key in expected}


with torch.inference_mode():
    model, clip, vae = load_miniature_world()
miniature = load_model()
unet, three = three_levels()
other = DiffusersModel(
    "three levels", unet, miniature.text_encoder, MiniatureTokenizer(), miniature.coder, NoiseSchedule.scaled_linear(), 128
)
if __name__ == "__main__":
    inside.report({"miniature": compare(miniature, (model, clip, vae), 8), "three levels": compare(other, (three, clip, vae), 16)})
