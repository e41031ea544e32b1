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
import comfy.sd  # noqa: E402
import comfy.sd1_clip  # noqa: E402
import comfy.sdxl_clip  # noqa: E402
import comfy.supported_models  # noqa: E402
import comfy.text_encoders.flux  # noqa: E402
import comfy.text_encoders.sd2_clip  # noqa: E402
import torch  # noqa: E402
from pack.hybridbooth_core.errors import UserError  # noqa: E402
from pack.hybridbooth_core.files.subject import Subject  # noqa: E402
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


CPU = torch.device("cpu")
SD15 = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "context_dim": 768, "num_heads": 8,
    "use_spatial_transformer": True, "legacy": False, "use_linear_in_transformer": False, "use_temporal_attention": False,
    "adm_in_channels": None,
}  # fmt: skip
LINEAR = {"use_linear_in_transformer": True, "num_heads": -1, "num_head_channels": 64}
SDXL = {
    "channel_mult": [1, 2, 4], "num_res_blocks": [2, 2, 2], "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "context_dim": 2048, "adm_in_channels": 2816,
    "num_classes": "sequential",
}  # fmt: skip
FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096, "hidden_size": 3072,
    "mlp_ratio": 4.0, "num_heads": 24, "depth": 19, "depth_single_blocks": 38, "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2,
    "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip


def true_size(family: str, config: dict) -> object:
    """A MODEL of the host's own class at its true size, without memory for its weights."""
    model = getattr(comfy.supported_models, family)(config)
    model.set_inference_dtype(torch.float32, None)
    return comfy.model_patcher.ModelPatcher(model.get_model({}, "", device="meta"), CPU, CPU)


def true_clip(tokenizer: type, model: type) -> object:
    """A CLIP likewise."""
    target = SimpleNamespace(clip=model, tokenizer=tokenizer, params={})
    return comfy.sd.CLIP(target, model_options={"initial_device": torch.device("meta"), "load_device": CPU, "offload_device": CPU})


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
    sd15 = true_size("SD15", SD15)
    clip_l = true_clip(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    clip_h = true_clip(comfy.text_encoders.sd2_clip.SD2Tokenizer, comfy.text_encoders.sd2_clip.SD2ClipModel)
    clip_gl = true_clip(comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel)
    clip_t5 = true_clip(comfy.text_encoders.flux.FluxTokenizer, comfy.text_encoders.flux.flux_clip())
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
            "true SD1.5": refusal(sd15, clip_l, vae),
            "true SD1.5 inpainting": refusal(true_size("SD15", SD15 | {"in_channels": 9}), clip_l, vae),
            "true SD2": refusal(true_size("SD20", SD15 | LINEAR | {"context_dim": 1024}), clip_l, vae),
            "true SDXL": refusal(true_size("SDXL", SD15 | LINEAR | SDXL), clip_l, vae),
            "true Flux": refusal(true_size("Flux", FLUX), clip_l, vae),
            "true SD2 clip": refusal(sd15, clip_h, vae),
            "true SDXL clip": refusal(sd15, clip_gl, vae),
            "true Flux clip": refusal(sd15, clip_t5, vae),
            "sd1 subject": said(lambda: with_subject(clip, subject, "a", 1.0)),
        }
    )
