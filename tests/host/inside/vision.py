"""The encoders inside the host: a wired CLIP_VISION against our own reading of the same file, and the nodes that use them.

Run in ComfyUI's own Python by `test_vision` with a folder that holds `clip.safetensors` and `dino.safetensors`; prints what was found.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import inside

os.environ["HF_HUB_OFFLINE"] = "1"
folder = Path(sys.argv[1])
inside.start()

import comfy.clip_model  # noqa: E402
import comfy.clip_vision  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.ops  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from pack.hybridbooth_core.encoders.catalogue import CATALOGUE, CLIP_L, DINOV2_S  # noqa: E402
from pack.hybridbooth_core.encoders.clip_vit import load_clip_vision  # noqa: E402
from pack.hybridbooth_core.encoders.dinov2 import load_dinov2  # noqa: E402
from pack.hybridbooth_core.encoders.features import reference, square_crops  # noqa: E402
from pack.hybridbooth_core.errors import UserError  # noqa: E402
from pack.hybridbooth_core.miniature.bundle import load_probe  # noqa: E402
from pack.hybridbooth_core.probe.probe import ProbeConfig  # noqa: E402
from pack.nodes.encoders import DownloadEncoders  # noqa: E402
from pack.nodes.errors import HybridBoothError  # noqa: E402
from pack.nodes.host.folders import register_probe_folder  # noqa: E402
from pack.nodes.host.networks import on_device  # noqa: E402
from pack.nodes.host.session import outside_inference_mode  # noqa: E402
from pack.nodes.host.vision import WiredClipVision, download_progress, host_clip_space  # noqa: E402
from pack.nodes.probe import ExtractFeatures  # noqa: E402

NOTHING = str(folder / "nothing")


def look_in(path: str) -> None:
    """Make this the only folder of encoder files."""
    folder_paths.folder_names_and_paths["hybridbooth"] = ([path], {".safetensors"})
    for kind in ("clip_vision", "diffusers"):
        folder_paths.folder_names_and_paths[kind] = ([NOTHING], {".safetensors"})


def said(call) -> str:
    try:
        call()
    except (UserError, HybridBoothError) as error:
        return str(error)
    return "nothing"


def of_another_size(width: int, image: int, **changes) -> SimpleNamespace:
    """A stock CLIP_VISION with one layer."""
    config = {
        "num_hidden_layers": 1, "hidden_size": width, "num_attention_heads": 4, "intermediate_size": 8, "hidden_act": "gelu",
        "num_channels": 3, "patch_size": 14, "image_size": image, "projection_dim": 8, "model_type": "clip_vision_model", **changes,
    }  # fmt: skip
    return SimpleNamespace(
        model=comfy.clip_model.CLIPVisionModelProjection(config, torch.float32, "cpu", comfy.ops.manual_cast), patcher=None
    )


class Vae:
    """What of a VAE a reference image meets."""

    first_stage_model = SimpleNamespace(image_size=64)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images.movedim(-1, 1)[:, :, ::8, ::8]


register_probe_folder()
look_in(str(folder))
probe = SimpleNamespace(config=ProbeConfig(768, CLIP_L.id, 1024, DINOV2_S.id, 384))
with torch.inference_mode():
    stock = comfy.clip_vision.load(str(folder / "clip.safetensors"))
    images, masks = torch.rand(1, 200, 300, 3), torch.zeros(1, 200, 300)
    masks[:, 40:150, 100:220] = 1
    before = {name: tensor.clone() for name, tensor in stock.model.state_dict().items() if "layers.5." in name}
    with outside_inference_mode():
        ref = reference(images, masks)
        crops = square_crops(ref.images, ref.masks, 224)
        tokens = load_clip_vision(folder / "clip.safetensors")(crops)
        dino = load_dinov2(folder / "dino.safetensors", DINOV2_S)(crops)
        wired_space, space = host_clip_space(stock), host_clip_space()
        embedding = inside.relative(space.images(crops), wired_space.images(crops))
        projected = space.project_text(torch.randn(1, 768)).shape == (1, 768)
        del space, wired_space
    loaded = len(comfy.model_management.current_loaded_models)
    from_files = ExtractFeatures.execute(probe, Vae(), images, masks).args[0][1]
    from_socket = ExtractFeatures.execute(probe, Vae(), images, masks, stock).args[0][1]
    miniature = ExtractFeatures.execute(load_probe(), Vae(), images, masks, stock).args[0][1]
    left = len(comfy.model_management.current_loaded_models) - loaded
    tensors = [from_files.clip, from_files.dino, from_socket.clip, from_socket.dino]
    report = DownloadEncoders.execute(CLIP_L.label)
    results = {
        "embedding": embedding,
        "projected": projected,
        "file clip": inside.relative(tokens, from_files.clip),
        "file dino": inside.relative(dino, from_files.dino),
        "socket clip": inside.relative(tokens, from_socket.clip),
        "socket dino": inside.relative(dino, from_socket.dino),
        "miniature": list(miniature.clip.shape),
        "ordinary": not any(tensor.is_inference() for tensor in tensors),
        "shapes": [list(tensor.shape) for tensor in tensors],
        "untouched": all(torch.equal(stock.model.state_dict()[name], tensor) for name, tensor in before.items()) and bool(before),
        "left": left,
        "report": report.args[0],
        "shown": report.ui.as_dict()["text"][0],
        "refused": [said(lambda wrong=wrong: WiredClipVision(wrong)) for wrong in (
            of_another_size(1280, 224), of_another_size(1024, 336), of_another_size(1152, 378, model_type="siglip_vision_model"),
            SimpleNamespace(model=torch.nn.Linear(1, 1)),
        )],
    }  # fmt: skip
    with outside_inference_mode(), on_device(torch.nn.Linear(2, 2)) as device:
        results["device"] = device == comfy.model_management.get_torch_device()
        results["while open"] = len(comfy.model_management.current_loaded_models) - loaded
    comfy.model_management.interrupt_current_processing(True)
    try:
        download_progress(2)(1, 2)
    except comfy.model_management.InterruptProcessingException:
        results["stopped"] = True
    look_in(NOTHING)
    results["missing"] = said(lambda: ExtractFeatures.execute(probe, Vae(), images, masks))
    results["missing dino"] = said(lambda: ExtractFeatures.execute(probe, Vae(), images, masks, stock))
    results["offline"] = [said(lambda label=entry.label: DownloadEncoders.execute(label)) for entry in CATALOGUE.values()]
    stock.model.visual_projection = torch.nn.Identity()
    results["no projection"] = said(lambda: WiredClipVision(stock).embed(crops))
inside.report(results)
