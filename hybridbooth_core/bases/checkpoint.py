"""One stock Stable Diffusion 1.5 checkpoint (LDM layout, `.safetensors`) as the parts of a pipeline. Nothing is fetched.

A checkpoint holds tensors alone. What else is needed is a few facts of Stable Diffusion 1.5, which stand here, and sizes, which are read
from the tensors' shapes, so that a checkpoint of reduced width loads the same way.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import UserError
from ..files.safetensors import read_header
from ..models.ldm_layout import UNET
from ..models.noise_schedule import NoiseSchedule
from .clip_vocabulary import LENGTH

MAX_BYTES = 16 << 30
VAE, TEXT = "first_stage_model.", "cond_stage_model.transformer."
HEADS, HEAD_WIDTH, GROUPS, SCALING = 8, 64, 32, 0.18215
START_ID, END_ID = 49406, 49407
V_PREDICTION = "v_pred"  # a key that checkpoints of v-prediction carry, by convention

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Parts:
    """The networks of a checkpoint, and its noise schedule."""

    unet: Any
    vae: Any
    text_encoder: Any
    schedule: NoiseSchedule


def load_checkpoint(path: Path, dtype: torch.dtype) -> Parts:
    """The parts of a checkpoint on the CPU: the denoiser in `dtype`, the others in float32.

    Raises:
        UserError: the file is damaged, or no plain Stable Diffusion 1.5 checkpoint.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    shapes = read_shapes(path)
    with _one_sentence(path):
        unet_sizes, vae_sizes, text_sizes = unet_config(shapes), vae_config(shapes), text_config(shapes)
        unet = _single_file(UNet2DConditionModel, _read(path, shapes, UNET), unet_sizes, dtype)
        vae = _single_file(AutoencoderKL, _read(path, shapes, VAE), vae_sizes, torch.float32)
        text = _text_encoder(_read(path, shapes, TEXT), text_sizes)
    return Parts(unet, vae, text, NoiseSchedule.scaled_linear("v_prediction" if V_PREDICTION in shapes else "epsilon"))


def load_vae(path: Path) -> Any:
    """The autoencoder of a checkpoint alone, float32 on the CPU; UserError as `load_checkpoint`."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    shapes = read_shapes(path)
    with _one_sentence(path):
        return _single_file(AutoencoderKL, _read(path, shapes, VAE), vae_config(shapes), torch.float32)


def read_shapes(path: Path) -> Shapes:
    """The shapes of a checkpoint's tensors by name, read from its header; UserError if it is no plain Stable Diffusion 1.5."""
    header, _ = read_header(path, "checkpoint", MAX_BYTES)
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    check_family_of(path.name, shapes)
    return shapes


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Turns what the libraries raise at a damaged checkpoint into a UserError."""
    try:
        yield
    except UserError:
        raise
    except (KeyError, IndexError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"the checkpoint {path.name} cannot be loaded ({reason}); get it again, or give a diffusers folder") from error


def check_family_of(name: str, shapes: Shapes) -> None:
    """UserError unless the tensors are those of a plain Stable Diffusion 1.5; it says what they are instead."""
    first, reads = shapes.get(f"{UNET}input_blocks.0.0.weight", ()), _context_width(shapes)
    if any(key.startswith("conditioner.embedders.") for key in shapes):
        found = "an SDXL checkpoint"
    elif not first:
        found = "another kind of file (it has no denoiser in LDM layout)"
    elif len(first) == 4 and first[1] != 4:
        found = f"a denoiser with {first[1]} input channels, as inpainting models have"
    elif any(key.startswith("cond_stage_model.model.") for key in shapes):
        found = "a Stable Diffusion 2 checkpoint"
    elif not any(key.startswith(TEXT) for key in shapes):
        found = "a checkpoint without a text encoder"
    elif f"{VAE}encoder.conv_in.weight" not in shapes:
        found = "a checkpoint without a full autoencoder"
    elif reads != shapes.get(f"{_text_prefix(shapes)}embeddings.token_embedding.weight", (0, 0))[1]:
        found = f"a denoiser that reads width {reads} beside a text encoder of another width"
    else:
        return
    raise UserError(f"expected a plain Stable Diffusion 1.5 checkpoint, found {found} in {name}; choose another file")


def unet_config(shapes: Shapes) -> dict[str, Any]:
    """diffusers' configuration of the denoiser. Levels, layers, channels and where attention is are read from the shapes."""
    blocks = _numbered(shapes, rf"{re.escape(UNET)}input_blocks\.(\d+)\.")
    channels: list[int] = []
    layers: list[int] = [0]
    attention: list[bool] = [False]
    for block in blocks[1:]:
        prefix = f"{UNET}input_blocks.{block}."
        if f"{prefix}0.op.weight" in shapes:
            layers.append(0)
            attention.append(False)
            continue
        layers[-1] += 1
        attention[-1] |= f"{prefix}1.proj_in.weight" in shapes
        channels[len(layers) - 1 :] = [shapes[f"{prefix}0.out_layers.3.weight"][0]]
    return {
        "sample_size": 64,
        "in_channels": shapes[f"{UNET}input_blocks.0.0.weight"][1],
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": layers[0],
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)],
        "cross_attention_dim": _context_width(shapes),
        "attention_head_dim": HEADS,  # diffusers' name for the number of heads
        "norm_num_groups": GROUPS,
    }


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """diffusers' configuration of the autoencoder."""
    levels = _numbered(shapes, rf"{re.escape(VAE)}encoder\.down\.(\d+)\.block\.0\.")
    return {
        "sample_size": 512,
        "block_out_channels": [shapes[f"{VAE}encoder.down.{level}.block.0.conv1.weight"][0] for level in levels],
        "layers_per_block": len(_numbered(shapes, rf"{re.escape(VAE)}encoder\.down\.0\.block\.(\d+)\.")),
        "down_block_types": ["DownEncoderBlock2D"] * len(levels),
        "up_block_types": ["UpDecoderBlock2D"] * len(levels),
        "latent_channels": shapes[f"{VAE}post_quant_conv.weight"][0],
        "norm_num_groups": GROUPS,
        "scaling_factor": SCALING,
    }


def text_config(shapes: Shapes) -> dict[str, Any]:
    """transformers' configuration of the text encoder."""
    prefix = _text_prefix(shapes)
    rows, width = shapes[f"{prefix}embeddings.token_embedding.weight"]
    return {
        "vocab_size": rows,
        "hidden_size": width,
        "intermediate_size": shapes[f"{prefix}encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": len(_numbered(shapes, rf"{re.escape(prefix)}encoder\.layers\.(\d+)\.")),
        "num_attention_heads": max(1, width // HEAD_WIDTH),
        "max_position_embeddings": shapes[f"{prefix}embeddings.position_embedding.weight"][0],
        "hidden_act": "quick_gelu",
        "bos_token_id": START_ID,
        "eos_token_id": END_ID,
        "pad_token_id": END_ID,
    }


def _text_prefix(shapes: Shapes) -> str:
    inner = f"{TEXT}text_model."
    return inner if any(key.startswith(inner) for key in shapes) else TEXT  # old files leave the inner name out


def _context_width(shapes: Shapes) -> int:
    return next((shape[1] for key, shape in shapes.items() if key.startswith(UNET) and key.endswith("attn2.to_k.weight")), 0)


def _numbered(shapes: Shapes, pattern: str) -> list[int]:
    return sorted({int(match[1]) for key in shapes if (match := re.match(pattern, key))})


def _read(path: Path, shapes: Shapes, prefix: str) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in shapes if name.startswith(prefix)}


def _single_file(kind: Any, tensors: dict[str, Tensor], config: dict[str, Any], dtype: torch.dtype) -> Any:
    """A network of diffusers by its own reader of LDM checkpoints, with our configuration in place of the hub's."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps({"_class_name": kind.__name__, **config}))
        held = sum(tensor.numel() for tensor in tensors.values())  # counted first: the reader may empty the dict
        network = kind.from_single_file(tensors, config=folder, local_files_only=True)
    if held < sum(tensor.numel() for tensor in network.state_dict().values()):  # without accelerate, diffusers leaves the rest random
        raise ValueError(f"tensors of {kind.__name__} are missing")
    return torch.nn.Module.to(network, dtype)  # diffusers' own `to` warns at every cast


def _text_encoder(tensors: dict[str, Tensor], config: dict[str, Any]) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    if config["max_position_embeddings"] != LENGTH:
        raise ValueError(f"the text encoder reads {config['max_position_embeddings']} tokens, not {LENGTH}")
    with torch.device("meta"):
        model = CLIPTextModel(CLIPTextConfig(**config))
    inner: Any = getattr(model, "text_model", model)  # transformers 4 wraps the transformer, 5 does not
    state = {re.sub(rf"^{re.escape(TEXT)}(text_model\.)?", "", name): tensor.float() for name, tensor in tensors.items()}
    wanted = set(inner.state_dict())
    inner.load_state_dict({name: tensor for name, tensor in state.items() if name in wanted}, strict=True, assign=True)
    positions = torch.arange(LENGTH)[None]  # a buffer that no file needs to hold
    inner.embeddings.position_ids = positions  # type: ignore[union-attr]
    return model
