"""Converts a state dict of diffusers' UNet2DConditionModel to the LDM checkpoint layout, which ComfyUI reads.

For Stable Diffusion 1.5's blocks at any size: the levels, the layers of each level and which of them have attention are read from the
keys. Only names change, never shapes: in SD1.5 the transformers' projections are convolutions in both layouts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

UNET = "model.diffusion_model."  # what a checkpoint puts before the names of its denoiser
_OUTER = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_MODULE = re.compile(r"(?:(?:down|up)_blocks\.\d+|mid_block)\.(?:resnets|attentions|downsamplers|upsamplers)\.\d+")


def to_ldm_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the names `input_blocks...`, `middle_block...`, `output_blocks...`, `time_embed...` and `out...`.

    Raises:
        ValueError: a key is not one of a Stable Diffusion 1.5 UNet2DConditionModel.
    """
    modules = _OUTER | _encoder(state) | _decoder(state)
    return {_renamed(key, modules): tensor for key, tensor in state.items()}


def from_checkpoint(tensors: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The denoiser's tensors of a checkpoint under diffusers' names; `parameters` are those of the UNet2DConditionModel they are for."""
    ldm = dict(zip(to_ldm_layout(parameters), parameters, strict=True))
    return {ldm.get(name.removeprefix(UNET), name): tensor for name, tensor in tensors.items()}


def _encoder(state: Mapping[str, Tensor]) -> dict[str, str]:
    """LDM names of the down blocks' modules: each layer and each downsampler is an input block."""
    places, block = {}, 1
    for level, layers in enumerate(_layers(state, "down_blocks")):
        for layer in range(layers):
            places[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{block}.0"
            places[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{block}.1"
            block += 1
        if f"down_blocks.{level}.downsamplers.0.conv.weight" in state:
            places[f"down_blocks.{level}.downsamplers.0"] = f"input_blocks.{block}.0"
            block += 1
    return places


def _decoder(state: Mapping[str, Tensor]) -> dict[str, str]:
    """LDM names of the up blocks' modules: each layer is an output block, and an upsampler is the last part of its level's last block."""
    places, block = {}, 0
    for level, layers in enumerate(_layers(state, "up_blocks")):
        for layer in range(layers):
            places[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{block}.0"
            places[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{block}.1"
            block += 1
        attention = any(key.startswith(f"up_blocks.{level}.attentions.") for key in state)
        places[f"up_blocks.{level}.upsamplers.0"] = f"output_blocks.{block - 1}.{2 if attention else 1}"
    return places


def _layers(state: Mapping[str, Tensor], side: str) -> list[int]:
    """The number of layers of each level of `side`."""
    found = {(int(m[1]), int(m[2])) for key in state if (m := re.match(rf"{side}\.(\d+)\.resnets\.(\d+)\.", key))}
    levels = 1 + max((level for level, _ in found), default=-1)
    return [sum(1 for level, _ in found if level == wanted) for wanted in range(levels)]


def _renamed(key: str, modules: Mapping[str, str]) -> str:
    match = _MODULE.match(key)
    module = match[0] if match else key.rpartition(".")[0]
    if module not in modules:
        raise ValueError(f"expected the keys of a UNet2DConditionModel with Stable Diffusion 1.5's blocks, found {key!r}")
    rest = key[len(module) + 1 :]
    if ".resnets." in key:
        layer, _, parameter = rest.partition(".")
        rest = f"{_RESNET[layer]}.{parameter}"
    elif ".downsamplers." in key:
        rest = rest.replace("conv.", "op.", 1)
    return f"{modules[module]}.{rest}"


def transformers_of(names: Iterable[str]) -> dict[str, str]:
    """The places of a denoiser's transformers in the LDM layout, read from its modules' names, to their names in diffusers' layout.

    In diffusers' own order: down blocks, up blocks, the middle.
    """
    names = set(names)
    down: dict[str, str] = {}
    layers, level, layer, block = [0], 0, 0, 1
    while any(name.startswith(f"input_blocks.{block}.") for name in names):
        if f"input_blocks.{block}.0.op" in names:
            level, layer = level + 1, 0
            layers.append(0)
        else:
            if f"input_blocks.{block}.1.transformer_blocks" in names:
                down[f"input_blocks.{block}.1"] = f"down_blocks.{level}.attentions.{layer}"
            layer += 1
            layers[level] = layer
        block += 1
    up: dict[str, str] = {}
    block = 0
    for level, count in enumerate(reversed(layers)):
        for layer in range(count + 1):  # a decoder's level has one layer more
            if f"output_blocks.{block}.1.transformer_blocks" in names:
                up[f"output_blocks.{block}.1"] = f"up_blocks.{level}.attentions.{layer}"
            block += 1
    middle = {"middle_block.1": "mid_block.attentions.0"} if "middle_block.1.transformer_blocks" in names else {}
    return {**down, **up, **middle}
