"""Two names for one denoiser: a state dict of diffusers' UNet2DConditionModel in the layout of LDM checkpoints, which ComfyUI reads.

For Stable Diffusion 1.5's family of blocks at any size: the number of levels, the layers of each and which of them have attention are
told from the keys. Tensors keep their shapes; only names change. (In SD1.5's family the transformers' projections are convolutions and
have the same names and shapes in both layouts.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

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
        ValueError: a key belongs to no denoiser of this family.
    """
    modules = _OUTER | _encoder(state) | _decoder(state)
    return {_renamed(key, modules): tensor for key, tensor in state.items()}


def _encoder(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Every module of the way down to its place: each layer is an input block, each downsampler another."""
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
    """Every module of the way up to its place: each layer is an output block, and an upsampler is the end of its level's last one."""
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
    """How many layers each level of `side` has."""
    found = {(int(m[1]), int(m[2])) for key in state if (m := re.match(rf"{side}\.(\d+)\.resnets\.(\d+)\.", key))}
    levels = 1 + max((level for level, _ in found), default=-1)
    return [sum(1 for level, _ in found if level == wanted) for wanted in range(levels)]


def _renamed(key: str, modules: Mapping[str, str]) -> str:
    match = _MODULE.match(key)
    module = match[0] if match else key.rpartition(".")[0]
    if module not in modules:
        raise ValueError(f"expected the keys of a UNet2DConditionModel of Stable Diffusion 1.5's family, found {key!r}")
    rest = key[len(module) + 1 :]
    if ".resnets." in key:
        layer, _, parameter = rest.partition(".")
        rest = f"{_RESNET[layer]}.{parameter}"
    elif ".downsamplers." in key:
        rest = rest.replace("conv.", "op.", 1)
    return f"{modules[module]}.{rest}"
