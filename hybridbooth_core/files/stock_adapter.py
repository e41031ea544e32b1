"""Adapter weights as a LoRA file that stock ComfyUI loads: low-rank residuals as they are, whole matrices as their differences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from ..errors import UserError
from ..models.low_rank import kohya_name
from .adapter_weights import LOW_RANK, WORD, AdapterWeights, parameter_name
from .modelspec import modelspec
from .safetensors import write_tensors


def stock_tensors(weights: AdapterWeights, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the keys of ComfyUI's LoRA loader.

    Args:
        own: the denoiser's weights by diffusers' names; Custom Diffusion's matrices become `....diff`, W' - W.
    Raises:
        ValueError: weights of another form, or of another denoiser.
    """
    if weights.info.form in LOW_RANK:
        return {name: tensor for name, tensor in weights.tensors.items() if name != WORD}
    if weights.info.form != "custom_diffusion":
        raise ValueError(f"expected a LoRA or Custom Diffusion, found {weights.info.form}")
    matrices = {parameter_name(name): tensor for name, tensor in weights.tensors.items() if name != WORD}
    if any(name not in own or own[name].shape != tensor.shape for name, tensor in matrices.items()):
        raise ValueError("expected the weights of the denoiser that was tuned")
    return {
        f"{kohya_name(name.removesuffix('.weight'))}.diff": tensor - own[name].detach().to("cpu", tensor.dtype)
        for name, tensor in matrices.items()
    }


def save_stock(weights: AdapterWeights, own: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Writes `stock_tensors` to a new file and returns them. UserError: it exists, or the place cannot be written."""
    tensors = {name: tensor.contiguous() for name, tensor in stock_tensors(weights, own).items()}
    if weights.info.form == "lora":
        weights.save(path)
        return tensors
    if path.exists():
        raise UserError(f"{path.name} exists already; choose another name")
    info = weights.info
    metadata = {"info": json.dumps(asdict(info)), **modelspec(path.stem, f"{info.token} {info.class_noun}", info.family, "lora")}
    write_tensors(path, tensors, metadata)
    return tensors
