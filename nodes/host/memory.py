"""Memory estimates of forward and backward passes through ComfyUI's models, and the memory available.

Counts a block's saved activations per latent cell and channel; `tests/host/inside/memory.py` compares the sums with measurements.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, Upsample
from torch import nn

# A residual block saves, at its input and its output width, the inputs of a norm, an activation and a convolution.
RESIDUAL_SAVED = 3
# A transformer saves the inputs of its norm and both convolutions (3); in its block the inputs of three norms (3), queries, keys, values
# and outputs of self-attention (4), queries and outputs of cross-attention (2), and in the GEGLU layer, four times as wide, both halves
# and the gate (12). A linear layer with frozen weights saves nothing.
TRANSFORMER_SAVED = 24
# A transformer also saves keys and values of the 77 tokens, and with attention capture a float32 map per head.
TOKENS, MAP_BYTES = 77, 4
# A layer of the text encoder saves, in token widths, the inputs of two norms, queries, keys, values and outputs, and in the MLP, four
# times as wide, the activation's input and output.
TEXT_SAVED = 14
# Temporary buffers as fractions of the largest block. On the CPU, convolutions reorder their inputs, and freed memory is not all returned.
TEMPORARY, TEMPORARY_ON_CPU = 0.4, 2.4


@dataclass(frozen=True)
class SavedActivations:
    """A block's saved values per sample: `inputs` with checkpointing, `total` without. `maps` are bytes for attention capture."""

    inputs: int
    total: int
    maps: int = 0


def blocks(unet: Any) -> Iterator[nn.Module]:
    """The residual blocks and transformers of a denoiser; none contains another."""
    return (module for module in unet.modules() if isinstance(module, ResBlock | SpatialTransformer))


def pass_memory(patcher: Any, dtype: torch.dtype, batch_size: int, cells: int, checkpointing: bool, device: torch.device) -> int:
    """Estimated bytes of a denoiser's forward and backward pass over latents of `cells` cells, without its weights."""
    saved = list(_saved(patcher.model.diffusion_model, cells))
    largest = max(block.total for block in saved)
    values = sum(block.inputs for block in saved) + largest if checkpointing else sum(block.total for block in saved)
    values += largest * (TEMPORARY_ON_CPU if device.type == "cpu" else TEMPORARY)
    maps = sum(block.maps for block in saved)
    return int(batch_size * (values * dtype.itemsize + maps)) + _copied_weights(patcher, dtype, checkpointing)


def text_memory(clip: Any, batch_size: int, checkpointing: bool) -> int:
    """Estimated bytes of the text encoder's saved activations. It computes in float32 for any dtype of its weights."""
    layers = text_layers(clip)
    weights = next(layers[0].parameters())
    width, size = len(weights), torch.float32.itemsize
    layer = batch_size * TOKENS * width * TEXT_SAVED * size
    if weights.dtype != torch.float32 or _streams_weights(clip.patcher):
        layer += sum(parameter.numel() for parameter in layers[0].parameters()) * size
    return layer + len(layers) * batch_size * TOKENS * width * size if checkpointing else len(layers) * layer


def text_layers(clip: Any) -> nn.ModuleList:
    """The transformer layers of a CLIP-L."""
    return clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers


def _saved(unet: Any, cells: int) -> Iterator[SavedActivations]:
    skipped = cells if len(unet.channel_mult) > 2 else 0  # attention capture skips the finest of more than two resolutions
    for block in [*unet.input_blocks, unet.middle_block, *unet.output_blocks]:
        for layer in block:
            if isinstance(layer, ResBlock):
                yield SavedActivations(layer.channels * cells, RESIDUAL_SAVED * (layer.channels + layer.out_channels) * cells)
            elif isinstance(layer, SpatialTransformer):
                width = layer.in_channels
                heads = layer.transformer_blocks[0].n_heads
                total = TRANSFORMER_SAVED * width * cells + 2 * TOKENS * width
                yield SavedActivations(width * cells, total, 0 if cells == skipped else heads * TOKENS * cells * MAP_BYTES)
            elif isinstance(layer, Downsample):
                yield SavedActivations(layer.channels * cells, layer.channels * cells)
                cells //= 4
            elif isinstance(layer, Upsample):
                cells *= 4
                yield SavedActivations(layer.channels * cells, layer.channels * cells)


def _copied_weights(patcher: Any, dtype: torch.dtype, checkpointing: bool) -> int:
    """Bytes of weight copies saved for the backward pass: 0 if the weights are loaded in the compute dtype."""
    unet = patcher.model.diffusion_model
    if patcher.model.get_dtype() == dtype and not _streams_weights(patcher):
        return 0
    parts: Iterable[nn.Module] = blocks(unet) if checkpointing else [unet]
    return max(sum(parameter.numel() for parameter in part.parameters()) for part in parts) * dtype.itemsize


def _streams_weights(patcher: Any) -> bool:
    """Whether ComfyUI streams weights to their operations through a reused buffer (its "dynamic VRAM")."""
    return bool(getattr(patcher, "is_dynamic", bool)())


def free_memory(patchers: Iterable[Any]) -> int:
    """Bytes available once `patchers` are fully loaded. Memory of other models counts as available, since ComfyUI unloads them."""
    patchers = list(patchers)
    device = patchers[0].load_device
    free = comfy.model_management.get_free_memory(device)
    if comfy.model_management.is_device_cpu(device):
        return free
    ours = {id(patcher.model) for patcher in patchers}
    others = [entry for entry in comfy.model_management.current_loaded_models if entry.device == device and entry.model is not None]
    held = sum(entry.model_loaded_memory() for entry in others if id(entry.model.model) not in ours)
    missing = sum(patcher.model_size() - patcher.loaded_size() for patcher in patchers)
    return int(free + held - missing - comfy.model_management.extra_reserved_memory())
