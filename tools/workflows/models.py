"""The model files that workflows name, as the browser's panel of missing models offers them.

A hash stands here only if several independent published lists state it for this file.
"""

from __future__ import annotations

from typing import Any

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
CANNY = "control_v11p_sd15_canny_fp16.safetensors"

_HUB = "https://huggingface.co"
MODELS: dict[str, dict[str, str]] = {
    CHECKPOINT: {
        "url": f"{_HUB}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{CHECKPOINT}",
        "hash": "e9476a13728cd75d8279f6ec8bad753a66a1957ca375a1464dc63b37db6e3916",
        "hash_type": "SHA256",
        "directory": "checkpoints",
    },
    CANNY: {
        "url": f"{_HUB}/comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/{CANNY}",
        "directory": "controlnet",
    },
}


def model_files(values: list[Any]) -> list[dict[str, str]]:
    """The entries for a node with these widget values."""
    return [{"name": value, **MODELS[value]} for value in values if isinstance(value, str) and value in MODELS]
