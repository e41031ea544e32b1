"""What a pass through the host's models takes of its memory, and how much is there.

The values that a block keeps for the way back are counted per latent cell and channel; `tests/host/inside/memory.py` holds the sum against
what a process really takes.

Axes: B rows, N latent cells of a block (its rows x columns).
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

# A residual block keeps, of its input and of its inner width: what a norm reads, what an activation reads, what a convolution reads.
RESIDUAL_KEEPS = 3
# A transformer keeps what its norm and both convolutions read (3), and of its block the inputs of three norms (3), queries, keys, values
# and results of the self-attention (4), queries and results of the cross-attention (2), and of the gated layer, four times as wide, both
# halves and the gate (12). A linear layer with frozen weights keeps nothing.
TRANSFORMER_KEEPS = 24
# Of the 77 tokens a transformer keeps keys and values, and a map of each head's where it is listened to, in float32.
TOKENS, MAP_BYTES = 77, 4
# A layer of the text encoder keeps, in widths of a token: two norms' inputs, queries, keys, values and results, and of the middle layer,
# four times as wide, what the activation reads and gives.
TEXT_KEEPS = 14
# What is worked on beside what is kept, in shares of the largest block. On the CPU convolutions lay out their inputs anew, and the memory
# of tensors that are gone does not all come back.
WORKED_ON, WORKED_ON_BY_CPU = 0.4, 2.4


@dataclass(frozen=True)
class Kept:
    """Values that a block keeps of one row: its input alone, and all that the way back needs. `maps` are bytes that listening adds."""

    inputs: int
    everything: int
    maps: int = 0


def blocks(unet: Any) -> Iterator[nn.Module]:
    """The residual blocks and transformers of a denoiser, none inside another."""
    return (module for module in unet.modules() if isinstance(module, ResBlock | SpatialTransformer))


def pass_memory(patcher: Any, dtype: torch.dtype, rows: int, cells: int, checkpointing: bool, device: torch.device) -> int:
    """Bytes that a pass of `rows` latents of so many cells, and the way back, take besides the model and the text encoder's part."""
    kept = list(_kept(patcher.model.diffusion_model, cells))
    largest = max(block.everything for block in kept)
    values = sum(block.inputs for block in kept) + largest if checkpointing else sum(block.everything for block in kept)
    values += largest * (WORKED_ON_BY_CPU if device.type == "cpu" else WORKED_ON)
    maps = sum(block.maps for block in kept)
    return int(rows * (values * dtype.itemsize + maps)) + _copied_weights(patcher, dtype, checkpointing)


def text_memory(clip: Any, rows: int, checkpointing: bool) -> int:
    """Bytes that the text encoder keeps of so many prompts for the way back. It computes in float32, whatever its weights are stored in."""
    layers = text_layers(clip)
    weights = next(layers[0].parameters())
    width, size = len(weights), torch.float32.itemsize
    inside = rows * TOKENS * width * TEXT_KEEPS * size
    if weights.dtype != torch.float32 or _moves_weights(clip.patcher):
        inside += sum(parameter.numel() for parameter in layers[0].parameters()) * size
    return inside + len(layers) * rows * TOKENS * width * size if checkpointing else len(layers) * inside


def text_layers(clip: Any) -> nn.ModuleList:
    """The layers of a CLIP-L, none inside another."""
    return clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers


def _kept(unet: Any, cells: int) -> Iterator[Kept]:
    unheard = cells if len(unet.channel_mult) > 2 else 0  # the finest of more than two resolutions
    for block in [*unet.input_blocks, unet.middle_block, *unet.output_blocks]:
        for layer in block:
            if isinstance(layer, ResBlock):
                yield Kept(layer.channels * cells, RESIDUAL_KEEPS * (layer.channels + layer.out_channels) * cells)
            elif isinstance(layer, SpatialTransformer):
                width = layer.in_channels
                heads = layer.transformer_blocks[0].n_heads
                everything = TRANSFORMER_KEEPS * width * cells + 2 * TOKENS * width
                yield Kept(width * cells, everything, 0 if cells == unheard else heads * TOKENS * cells * MAP_BYTES)
            elif isinstance(layer, Downsample):
                yield Kept(layer.channels * cells, layer.channels * cells)
                cells //= 4
            elif isinstance(layer, Upsample):
                cells *= 4
                yield Kept(layer.channels * cells, layer.channels * cells)


def _copied_weights(patcher: Any, dtype: torch.dtype, checkpointing: bool) -> int:
    """Bytes of the weights' copies that the way back keeps: none where they lie ready in the type that is computed in."""
    unet = patcher.model.diffusion_model
    if patcher.model.get_dtype() == dtype and not _moves_weights(patcher):
        return 0
    parts: Iterable[nn.Module] = blocks(unet) if checkpointing else [unet]
    return max(sum(parameter.numel() for parameter in part.parameters()) for part in parts) * dtype.itemsize


def _moves_weights(patcher: Any) -> bool:
    """Whether the host brings weights to their operations through a memory that it uses again (its "dynamic VRAM")."""
    return bool(getattr(patcher, "is_dynamic", bool)())


def free_memory(patchers: Iterable[Any]) -> int:
    """Bytes that are free for work beside `patchers`, loaded whole: what other models hold counts as free, since they make room."""
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
