"""The options that mean the same in every command: --model, --probe, --encoders, --comfyui, --device, --dtype."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..bases import DTYPES

if TYPE_CHECKING:
    from ..api import HybridBooth


def add_model_options(command: argparse.ArgumentParser, probe: bool = True, required: bool = False) -> argparse._ArgumentGroup:
    """--model and what belongs to it, in a group of their own, which is returned. `--base` is an old name of --model."""
    group = command.add_argument_group("model")
    default = {"required": True} if required else {"default": "miniature"}
    group.add_argument(
        "--model",
        metavar="MODEL",
        help="a Stable Diffusion 1.5 checkpoint (.safetensors), a diffusers folder, the id of a hub repository in the cache, or miniature, "
        "the small world that comes with the package" + ("" if required else " (default: miniature)"),
        **default,  # type: ignore[arg-type]
    )
    group.add_argument("--base", dest="model", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    group.add_argument(
        "--comfyui", type=Path, metavar="DIR", help="a ComfyUI folder: its checkpoints, encoders, probes and embeddings are found by name"
    )
    if probe:
        group.add_argument("--probe", metavar="FILE", help="a trained probe (default: the model's own, if it has one)")
        group.add_argument(
            "--hypernetwork", metavar="FILE", help="of the methods hypernetwork and hyperdreambooth (default: the model's own)"
        )
    group.add_argument("--adapter", metavar="FILE", help="of InstantBooth, for its method and its subjects (default: the model's own)")
    group.add_argument(
        "--encoders", type=Path, nargs="+", default=[], metavar="DIR", help="folders with CLIP ViT-L/14 and DINOv2, under any names"
    )
    add_device_options(group)
    return group


def add_device_options(group: argparse._ArgumentGroup | argparse.ArgumentParser, dtype: bool = True) -> None:
    """--device and --dtype."""
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: a GPU where there is one)")
    if dtype:
        group.add_argument("--dtype", choices=DTYPES, help="of the denoiser (default: float16 on CUDA, float32 elsewhere)")


def load(options: argparse.Namespace) -> HybridBooth:
    """The base model that the options name, with its probe and encoders."""
    from ..api import HybridBooth

    return HybridBooth.load(
        options.model,
        probe=getattr(options, "probe", None),
        hypernetwork=getattr(options, "hypernetwork", None),
        adapter=getattr(options, "adapter", None),
        encoders=options.encoders,
        device=options.device,
        dtype=options.dtype,
        comfyui=options.comfyui,
    )


def subject_file(text: str, comfyui: Path | None) -> Path:
    """The file of a subject: a path, or the name of an embedding in a ComfyUI folder."""
    path = Path(text)
    if comfyui is not None and not path.exists():
        from ..bases.comfyui import find_model

        return find_model(comfyui, "embeddings", text) or find_model(comfyui, "loras", text) or path
    return path
