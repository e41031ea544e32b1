"""Models of other families, wired in by mistake: each is refused in one sentence that names what was found.

Run in ComfyUI's own Python by `test_inside`; prints the sentences.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from types import SimpleNamespace

import inside

inside.start()

import comfy.model_patcher  # noqa: E402
import comfy.model_sampling  # noqa: E402
import comfy.sdxl_clip  # noqa: E402
import comfy.supported_models  # noqa: E402
import torch  # noqa: E402
from pack.hybridbooth_core.errors import UserError  # noqa: E402
from pack.hybridbooth_core.subject import Subject  # noqa: E402
from pack.nodes.host.miniature import load_miniature_world  # noqa: E402
from pack.nodes.host.model import host_model  # noqa: E402
from pack.nodes.host.subjects import with_subject  # noqa: E402


def unet(context: int, channels: int, **changes) -> object:
    """A one-level denoiser with SD1.5's latents."""
    config = comfy.supported_models.SD15({
        "image_size": 32, "in_channels": channels, "out_channels": 4, "model_channels": 32, "channel_mult": [1], "num_res_blocks": [1],
        "transformer_depth": [1], "transformer_depth_middle": 1, "transformer_depth_output": [1, 1], "context_dim": context,
        "use_spatial_transformer": True, "legacy": False, "use_linear_in_transformer": False, "use_temporal_attention": False,
        "adm_in_channels": None, **changes,
    })  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    return comfy.model_patcher.ModelPatcher(config.get_model({}, "", device="cpu"), torch.device("cpu"), torch.device("cpu"))


def said(call) -> str:
    try:
        call()
    except UserError as error:
        return str(error)
    return "nothing"


def refusal(model, clip, vae) -> str:
    def open_and_close() -> None:
        with host_model(model, clip, vae):
            pass

    return said(open_and_close)


with torch.inference_mode():
    model, clip, vae = load_miniature_world()
    xl = clip.clone()
    xl.tokenizer = comfy.sdxl_clip.SDXLTokenizer()
    flow = model.clone()

    class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    flow.add_object_patch("model_sampling", Flow())
    transformer = model.clone()
    transformer.model = SimpleNamespace(model_config=model.model.model_config, diffusion_model=torch.nn.Linear(1, 1))
    subject = Subject(torch.zeros(5, 768))
    inside.report(
        {
            "no clip": refusal(model, None, vae),
            "no vae": refusal(model, clip, None),
            "xl clip": refusal(model, xl, vae),
            "xl inject": said(lambda: with_subject(xl, subject, "a", 1.0)),
            "sd2 model": refusal(unet(1024, 4), clip, vae),
            "inpainting": refusal(unet(96, 9), clip, vae),
            "vae": refusal(unet(96, 4), clip, vae),
            "adm": refusal(unet(96, 4, adm_in_channels=2816, num_classes="sequential"), clip, vae),
            "flow": refusal(flow, clip, vae),
            "transformer": refusal(transformer, clip, vae),
            "sd1 subject": said(lambda: with_subject(clip, subject, "a", 1.0)),
        }
    )
